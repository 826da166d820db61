//! Switches and links as a graph, and the shortest ways through it.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::topology::{Shape, Topology, TopologyError};
use crate::{
    event::{HostId, PortId, SwitchId},
    time::{Rate, Span},
};

/// A switch of a network given by its links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Its name.
    pub name: String,
    /// Hosts that are connected to it; numbers go from switch to switch.
    #[serde(default)]
    pub hosts: u32,
}

/// A link between two switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The switches, by their place.
    pub ends: [u32; 2],
    /// Its rate in each direction.
    pub rate: Rate,
    /// Its propagation delay.
    pub propagation: Span,
}

/// A link of a way between two hosts, the hosts' own apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) rate: Rate,
    pub(super) propagation: Span,
    /// Links over which packets of a message can be sprayed here.
    pub(super) width: u32,
}

/// Switches, links between them, and which way packets go.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    switches: Vec<Switch>,
    links: Vec<Link>,
    /// The switch of each host.
    switch_of_host: Vec<u32>,
    /// Links from a switch to the closest one that has hosts.
    tiers: Vec<u32>,
    routes: Arc<Routes>,
}

/// Most entries of a table of routes: half a gigabyte.
const ROUTES_MAX: u64 = 1 << 26;

impl Graph {
    /// A network of switches, hosts and links.
    ///
    /// # Errors
    /// A link leads nowhere or hosts are not connected; see [`TopologyError`].
    pub fn new(switches: Vec<Switch>, links: Vec<Link>) -> Result<Self, TopologyError> {
        let unknown = |link: &&Link| link.ends.iter().any(|end| *end as usize >= switches.len());
        if let Some(link) = links.iter().find(unknown) {
            return Err(TopologyError::Link { ends: link.ends });
        }
        let hosts: u64 = switches.iter().map(|switch| u64::from(switch.hosts)).sum();
        TopologyError::check_hosts(hosts)?;
        let edges = switches.iter().filter(|switch| switch.hosts > 0).count();
        if edges as u64 * switches.len() as u64 > ROUTES_MAX {
            return Err(TopologyError::Switches { switches: switches.len() });
        }
        let switch_of_host = (0..)
            .zip(&switches)
            .flat_map(|(index, switch)| (0..switch.hosts).map(move |_| index))
            .collect();
        let mut graph =
            Self { switches, links, switch_of_host, tiers: Vec::new(), routes: Arc::default() };
        let edges = graph.edges();
        graph.tiers = graph.distances(&graph.neighbors(&[]), &edges);
        graph.routes = Arc::new(graph.routes_without(&[]));
        let apart = |edge: &u32| {
            let from_first = graph.routes.group(SwitchId(*edge), 0);
            *edge != edges[0] && from_first.is_empty()
        };
        match edges.iter().find(|edge| apart(edge)) {
            Some(edge) => {
                let name = |edge: u32| graph.switches[edge as usize].name.clone();
                Err(TopologyError::Apart { switches: [name(edges[0]), name(*edge)] })
            }
            None => Ok(graph),
        }
    }

    /// The network of a shape.
    pub(super) fn of(topology: &Topology) -> Result<Self, TopologyError> {
        let Topology { spine_rate, core_rate, propagation, .. } = *topology;
        let named = |name: &str, count: u32, hosts: u32| -> Vec<Switch> {
            (0..count).map(|index| Switch { name: format!("{name}{index}"), hosts }).collect()
        };
        let link = |a, b, rate| Link { ends: [a, b], rate, propagation };
        match topology.shape {
            Shape::Links(ref graph) => Ok(Self::clone(graph)),
            Shape::SingleSwitch { hosts } => Self::new(named("switch", 1, hosts), Vec::new()),
            Shape::LeafSpine { racks, hosts_per_rack, spines } => {
                let switches = [named("leaf", racks, hosts_per_rack), named("spine", spines, 0)];
                let spine =
                    |rack| (0..spines).map(move |spine| link(rack, racks + spine, spine_rate));
                Self::new(switches.concat(), (0..racks).flat_map(spine).collect())
            }
            Shape::FatTree { k, hosts_per_edge } => {
                let half = k / 2;
                let (edges, cores) = (k * half, half * half);
                let switches = [
                    named("edge", edges, hosts_per_edge),
                    named("aggregation", edges, 0),
                    named("core", cores, 0),
                ];
                let mut links = Vec::new();
                for (pod, place) in (0..k).flat_map(|pod| (0..half).map(move |place| (pod, place)))
                {
                    let (edge, aggregation) = (pod * half + place, edges + pod * half + place);
                    let up = |other| link(edge, edges + pod * half + other, spine_rate);
                    links.extend((0..half).map(up));
                    let core =
                        |other| link(aggregation, 2 * edges + place * half + other, core_rate);
                    links.extend((0..half).map(core));
                }
                Self::new(switches.concat(), links)
            }
        }
    }

    pub(super) fn hosts(&self) -> u32 {
        self.switch_of_host.len() as u32
    }

    pub(super) fn switches(&self) -> usize {
        self.switches.len()
    }

    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }

    pub(super) fn tier(&self, switch: SwitchId) -> u32 {
        self.tiers[switch.0 as usize]
    }

    pub(super) fn switch_of(&self, host: HostId) -> SwitchId {
        SwitchId(self.switch_of_host[host.0 as usize])
    }

    /// The links between two switches of these names.
    pub(super) fn links_named(&self, ends: &[String; 2]) -> Vec<usize> {
        let is = |name: &String, at: u32| self.switches[at as usize].name == *name;
        let between = |link: &Link| {
            let [a, b] = link.ends;
            is(&ends[0], a) && is(&ends[1], b) || is(&ends[0], b) && is(&ends[1], a)
        };
        let links = self.links.iter().enumerate();
        links.filter(|(_, link)| between(link)).map(|(index, _)| index).collect()
    }

    /// The port of a link at its end `end`, behind those of hosts and those to hosts.
    pub(super) fn port(&self, link: usize, end: usize) -> PortId {
        PortId(2 * self.hosts() + 2 * link as u32 + end as u32)
    }

    /// The routes when no link is dead.
    pub(super) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes)
    }

    /// Switches that have hosts.
    fn edges(&self) -> Vec<u32> {
        let has_hosts = |index: &u32| self.switches[*index as usize].hosts > 0;
        (0..self.switches.len() as u32).filter(has_hosts).collect()
    }

    /// Of each switch, the other ends of its links that are not `dead`, and its ports to them.
    fn neighbors(&self, dead: &[usize]) -> Vec<Vec<(u32, PortId)>> {
        let mut neighbors = vec![Vec::new(); self.switches.len()];
        for (index, link) in self.links.iter().enumerate() {
            if !dead.contains(&index) {
                let [a, b] = link.ends;
                neighbors[a as usize].push((b, self.port(index, 0)));
                neighbors[b as usize].push((a, self.port(index, 1)));
            }
        }
        neighbors
    }

    /// Links from each switch to the closest of some; `u32::MAX` where there is no way.
    fn distances(&self, neighbors: &[Vec<(u32, PortId)>], to: &[u32]) -> Vec<u32> {
        let mut distances = vec![u32::MAX; self.switches.len()];
        let mut found = to.to_vec();
        to.iter().for_each(|switch| distances[*switch as usize] = 0);
        let mut next = 0;
        while let Some(switch) = found.get(next).copied() {
            next += 1;
            for (neighbor, _) in &neighbors[switch as usize] {
                if distances[*neighbor as usize] == u32::MAX {
                    distances[*neighbor as usize] = distances[switch as usize] + 1;
                    found.push(*neighbor);
                }
            }
        }
        distances
    }

    /// The routes when some links are dead.
    pub(super) fn routes_without(&self, dead: &[usize]) -> Routes {
        let (neighbors, edges) = (self.neighbors(dead), self.edges());
        let mut routes = Routes {
            edges: edges.len(),
            groups: vec![(0, 0); edges.len() * self.switches.len()],
            ports: Vec::new(),
            edge_of_host: Vec::new(),
        };
        let mut known: HashMap<Vec<PortId>, (u32, u32)> = HashMap::new();
        for (column, edge) in edges.iter().enumerate() {
            let distances = self.distances(&neighbors, &[*edge]);
            for (switch, around) in neighbors.iter().enumerate() {
                let closer = |(neighbor, _): &&(u32, PortId)| {
                    distances[*neighbor as usize] < distances[switch]
                };
                let group: Vec<_> = around.iter().filter(closer).map(|(_, port)| *port).collect();
                let place = match known.get(&group) {
                    Some(place) => *place,
                    None => {
                        let place = (routes.ports.len() as u32, group.len() as u32);
                        routes.ports.extend(&group);
                        known.insert(group, place);
                        place
                    }
                };
                routes.groups[switch * edges.len() + column] = place;
            }
        }
        let column = |edge: &u32| edges.binary_search(edge).unwrap_or_default() as u32;
        routes.edge_of_host = self.switch_of_host.iter().map(column).collect();
        routes
    }

    /// The links of a way between two hosts, the hosts' own apart.
    pub(super) fn path(&self, from: HostId, to: HostId) -> Vec<Hop> {
        let mut hops = self.walk(from, to);
        let back = self.walk(to, from);
        // What spreads from one end has to come together at the other.
        for (hop, other) in hops.iter_mut().zip(back.iter().rev()) {
            hop.width = hop.width.min(other.width);
        }
        hops
    }

    fn walk(&self, from: HostId, to: HostId) -> Vec<Hop> {
        let (mut at, last) = (self.switch_of(from), self.switch_of(to));
        let mut hops = Vec::new();
        let mut width: u32 = 1;
        while at != last {
            let group = self.routes.group(at, self.routes.edge_of_host[to.0 as usize]);
            let Some(port) = group.first() else { break };
            let index = (port.0 - 2 * self.hosts()) as usize;
            let Link { ends, rate, propagation } = self.links[index / 2];
            width = width.saturating_mul(group.len() as u32);
            hops.push(Hop { rate, propagation, width });
            at = SwitchId(ends[1 - index % 2]);
        }
        hops
    }
}

/// By which ports a packet can leave a switch, so that its way is as short as any.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Routes {
    /// Number of switches that have hosts.
    edges: usize,
    /// Place in `ports` and length, by switch and by the place of the receiver's switch among
    /// those that have hosts.
    groups: Vec<(u32, u32)>,
    ports: Vec<PortId>,
    /// The place of the switch of each host.
    edge_of_host: Vec<u32>,
}

impl Routes {
    fn group(&self, at: SwitchId, edge: u32) -> &[PortId] {
        let (first, count) = self.groups[at.0 as usize * self.edges + edge as usize];
        &self.ports[first as usize..][..count as usize]
    }

    /// The ports by which a packet to a host of another switch can leave this one.
    pub(super) fn ports(&self, at: SwitchId, to: HostId) -> &[PortId] {
        self.group(at, self.edge_of_host[to.0 as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Vec<Shape> {
        vec![
            Shape::SingleSwitch { hosts: 5 },
            Shape::LeafSpine { racks: 3, hosts_per_rack: 2, spines: 4 },
            Shape::FatTree { k: 2, hosts_per_edge: 1 },
            Shape::FatTree { k: 4, hosts_per_edge: 2 },
            Shape::FatTree { k: 6, hosts_per_edge: 5 },
        ]
    }

    #[test]
    fn a_fat_tree_has_as_many_shortest_ways_as_it_has_cores_between_pods() {
        let shape = Shape::FatTree { k: 8, hosts_per_edge: 4 };
        let topology = Topology { shape, ..Topology::sigcomm18(1) };
        let graph = Graph::of(&topology).unwrap();
        assert_eq!((graph.hosts(), graph.switches(), graph.links().len()), (128, 80, 256));
        // At an edge four ways up, at an aggregation four again, then one.
        let widths = |to| -> Vec<u32> {
            graph.walk(HostId(0), HostId(to)).iter().map(|hop| hop.width).collect()
        };
        assert_eq!(widths(3), [0; 0]);
        assert_eq!(widths(4), [4, 4]);
        assert_eq!(widths(127), [4, 16, 16, 16]);
    }

    #[test]
    fn the_computed_way_of_each_shape_is_that_of_its_graph() {
        for shape in shapes() {
            let topology = Topology { shape, ..Topology::sigcomm18(1) };
            let graph = Graph::of(&topology).unwrap();
            assert_eq!(graph.hosts(), topology.hosts());
            for (from, to) in (0..graph.hosts()).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let (from, to) = (HostId(from), HostId(to));
                assert_eq!(topology.path(from, to), graph.path(from, to), "{topology:?}");
            }
        }
    }

    #[test]
    fn from_every_host_each_choice_of_ports_leads_to_every_other_one() {
        for shape in shapes() {
            let topology = Topology { shape, ..Topology::sigcomm18(1) };
            let graph = Graph::of(&topology).unwrap();
            for (from, to) in
                (0..graph.hosts()).flat_map(|a| (0..graph.hosts()).map(move |b| (a, b)))
            {
                let target = graph.switch_of(HostId(to));
                let mut at = vec![graph.switch_of(HostId(from))];
                for _ in 0..8 {
                    at = at
                        .iter()
                        .filter(|at| **at != target)
                        .flat_map(|at| {
                            graph.routes.ports(*at, HostId(to)).iter().map(|port| {
                                let index = (port.0 - 2 * graph.hosts()) as usize;
                                assert_eq!(graph.links[index / 2].ends[index % 2], at.0);
                                SwitchId(graph.links[index / 2].ends[1 - index % 2])
                            })
                        })
                        .collect();
                }
                assert_eq!(at, [], "{topology:?}: {from} to {to}");
            }
        }
    }

    #[test]
    fn hosts_that_nothing_connects_are_named() {
        let switch = |name: &str| Switch { name: name.to_owned(), hosts: 1 };
        let error = Graph::new(vec![switch("a"), switch("b")], Vec::new()).unwrap_err();
        assert_eq!(error, TopologyError::Apart { switches: ["a".to_owned(), "b".to_owned()] });
        let rate = Rate::from_mbps(1).unwrap();
        let link = Link { ends: [0, 2], rate, propagation: Span::ZERO };
        let error = Graph::new(vec![switch("a"), switch("b")], vec![link]).unwrap_err();
        assert_eq!(error, TopologyError::Link { ends: [0, 2] });
    }

    #[test]
    fn routes_avoid_a_dead_link() {
        let topology = Topology {
            shape: Shape::LeafSpine { racks: 2, hosts_per_rack: 1, spines: 2 },
            ..Topology::sigcomm18(1)
        };
        let graph = Graph::of(&topology).unwrap();
        let dead = graph.links_named(&["spine1", "leaf0"].map(str::to_owned));
        let ports = |routes: &Routes, at| routes.ports(SwitchId(at), HostId(1)).to_vec();
        assert_eq!(ports(&graph.routes(), 0), [graph.port(0, 0), graph.port(1, 0)]);
        assert_eq!(dead, [1]);
        let routes = graph.routes_without(&dead);
        assert_eq!(ports(&routes, 0), [graph.port(0, 0)]);
        // Nor does the switch above it lead to where it is cut off.
        assert_eq!(ports(&routes, 3), [graph.port(3, 1)]);
    }
}
