//! The rule that turns packets that look like TCP segments into ordinary ones, among what nftables
//! has.

use homa_io::ip::TCP_FORM_RULES;
use homa_lab::tool;
use serde_json::Value;

use super::finding::Finding;

/// The only way that rules can be seen; needs CAP_NET_ADMIN.
const LIST: [&str; 3] = ["-j", "list", "ruleset"];
/// SYN and RST, and the urgent pointer, of Homa packets (docs/spec/wire-format.md §8).
const FLAGS: u64 = 0x06;
const URGENT: u64 = 0xB97D;
/// What they become.
const PROTOCOL: u64 = 146;
/// Where connection tracking begins.
const CONNTRACK_PRIORITY: i64 = -200;

/// What is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Loaded {
    v4: bool,
    v6: bool,
    /// There is a table of the name that the rules use.
    table: bool,
    /// Something drops packets of invalid connection state, to which these belong.
    drops_invalid: bool,
}

/// Whether the rules are there; they matter to endpoints over `raw` IP only.
pub(super) fn tcp_form(raw: bool) -> Finding {
    let check = "nftables rules for packets that look like TCP";
    let output = match tool::command("nft").and_then(|mut nft| nft.args(LIST).output()) {
        Ok(output) => output,
        Err(_) => {
            let commands = format!("sudo apt-get install nftables\n{}", load(Loaded::default()));
            return missing(raw, check, "not loaded: there is no `nft` here", Loaded::default())
                .mended_by(commands);
        }
    };
    match serde_json::from_slice(&output.stdout) {
        Ok(ruleset) if output.status.success() => of_loaded(raw, check, loaded(&ruleset)),
        _ => {
            let found = "cannot be seen without root";
            let meaning = "Run `homa doctor` as root to check them.";
            match raw {
                true => Finding::warning(check, found, meaning)
                    .mended_by("sudo \"$(command -v homa)\" doctor --carriage ip"),
                false => Finding::ok(check, found, meaning),
            }
        }
    }
}

fn of_loaded(raw: bool, check: &'static str, loaded: Loaded) -> Finding {
    let found = match (loaded.v4, loaded.v6) {
        (true, true) => {
            let meaning =
                "All endpoints over raw IP understand such packets, and TCP never sees them.";
            return Finding::ok(check, "loaded", meaning);
        }
        (true, false) => "loaded for IPv4 only",
        (false, true) => "loaded for IPv6 only",
        (false, false) => "not loaded",
    };
    missing(raw, check, found, loaded).mended_by(load(loaded))
}

fn missing(raw: bool, check: &'static str, found: &str, loaded: Loaded) -> Finding {
    let mut meaning = "Linux hosts with hijack_tcp, and endpoints over --carriage ip-tcp, send such packets. Endpoints \
        over raw IP understand them without the rules too, but then each endpoint costs every ordinary TCP segment \
        of this host some tenths of a microsecond, and the host's TCP sees the packets; it drops them silently \
        unless a connection has the same addresses and ports."
        .to_owned();
    if loaded.drops_invalid {
        meaning.push_str(
            "\nAnother rule of this host drops what connection tracking calls invalid: without these rules such \
             packets do not arrive at all.",
        );
    }
    meaning
        .push_str("\nTo keep the rules beyond the next start append them to /etc/nftables.conf.");
    match raw {
        true => Finding::warning(check, found, meaning),
        false => Finding::ok(check, found, format!("Not needed over UDP. {meaning}")),
    }
}

/// The command that loads the rules.
fn load(loaded: Loaded) -> String {
    let remove = if loaded.table { "sudo nft delete table inet homa\n" } else { "" };
    format!("{remove}sudo nft -f - <<'END'\n{TCP_FORM_RULES}END\n")
}

/// Looks for the rules in what `nft -j list ruleset` prints.
fn loaded(ruleset: &Value) -> Loaded {
    let items = ruleset["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let chains: Vec<&Value> = items.iter().map(|item| &item["chain"]).collect();
    let is_early = |rule: &Value| {
        chains.iter().any(|chain| {
            let same = |key: &str| chain[key] == rule[key];
            same("family")
                && same("table")
                && chain["name"] == rule["chain"]
                && chain["hook"] == "prerouting"
                && chain["prio"].as_i64().is_some_and(|prio| prio < CONNTRACK_PRIORITY)
        })
    };
    let mut loaded = Loaded::default();
    for item in items {
        let table = &item["table"];
        loaded.table |= table["family"] == "inet" && table["name"] == "homa";
        let rule = &item["rule"];
        let Some(expressions) = rule["expr"].as_array() else {
            continue;
        };
        if is_early(rule) && chooses_homa(expressions) {
            loaded.v4 |= sets_protocol(expressions, "ip", "protocol");
            loaded.v6 |= sets_protocol(expressions, "ip6", "nexthdr");
        }
        loaded.drops_invalid |= drops_invalid(expressions);
    }
    loaded
}

fn chooses_homa(expressions: &[Value]) -> bool {
    let has = |field: &str, wanted: &dyn Fn(&Value) -> bool| {
        expressions.iter().any(|one| {
            let one = &one["match"];
            is_field(&one["left"], "tcp", field) && one["op"] == "==" && wanted(&one["right"])
        })
    };
    has("flags", &is_syn_and_rst) && has("urgptr", &|value| value.as_u64() == Some(URGENT))
}

/// Versions of nft print flags as a number, a list, or a sum.
fn is_syn_and_rst(value: &Value) -> bool {
    let names = value["|"].as_array().or(value.as_array());
    let are_names = names.is_some_and(|names| {
        names.len() == 2 && ["syn", "rst"].iter().all(|flag| names.iter().any(|name| name == flag))
    });
    are_names || value.as_u64() == Some(FLAGS)
}

fn sets_protocol(expressions: &[Value], header: &str, field: &str) -> bool {
    expressions.iter().any(|one| {
        let one = &one["mangle"];
        // Hosts whose list of protocols has Homa print its name.
        let value = &one["value"];
        is_field(&one["key"], header, field)
            && (value.as_u64() == Some(PROTOCOL) || value == "homa" || value == "Homa")
    })
}

fn is_field(value: &Value, protocol: &str, field: &str) -> bool {
    value["payload"]["protocol"] == protocol && value["payload"]["field"] == field
}

fn drops_invalid(expressions: &[Value]) -> bool {
    let is_invalid = |one: &Value| {
        let one = &one["match"];
        let right = &one["right"];
        let list = right.as_array().is_some_and(|states| states.iter().any(|s| s == "invalid"));
        one["left"]["ct"]["key"] == "state" && (list || right == "invalid")
    };
    let drops = expressions.iter().any(|one| one.get("drop").is_some());
    drops && expressions.iter().any(is_invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;
    use serde_json::json;

    fn matches(protocol: &str, field: &str, right: Value) -> Value {
        let left = json!({"payload": {"protocol": protocol, "field": field}});
        json!({"match": {"op": "==", "left": left, "right": right}})
    }

    fn rule(header: &str, field: &str, flags: Value) -> Value {
        let key = json!({"payload": {"protocol": header, "field": field}});
        json!({"rule": {"family": "inet", "table": "homa", "chain": "prerouting", "expr": [
            matches("tcp", "flags", flags),
            matches("tcp", "urgptr", json!(47485)),
            {"mangle": {"key": key, "value": 146}},
        ]}})
    }

    fn ruleset(prio: i64, rules: Vec<Value>) -> Value {
        let chain = json!({"chain": {"family": "inet", "table": "homa", "name": "prerouting",
            "type": "filter", "hook": "prerouting", "prio": prio}});
        let table = json!({"table": {"family": "inet", "name": "homa"}});
        let items = [vec![table, chain], rules].concat();
        json!({"nftables": items})
    }

    #[test]
    fn the_rules_are_recognised_in_every_way_nft_prints_flags() {
        for flags in [json!(6), json!(["syn", "rst"]), json!({"|": ["rst", "syn"]})] {
            let both = vec![rule("ip", "protocol", flags.clone()), rule("ip6", "nexthdr", flags)];
            let found = loaded(&ruleset(-300, both));
            assert!(found.v4 && found.v6);
            assert_eq!(of_loaded(true, "", found).state, State::Ok);
        }
    }

    #[test]
    fn rules_that_do_not_do_it_are_not_taken_for_them() {
        let good = || rule("ip", "protocol", json!(6));
        assert!(!loaded(&ruleset(0, vec![good()])).v4, "behind connection tracking");
        assert!(!loaded(&ruleset(-300, vec![rule("ip", "protocol", json!(2))])).v4);
        assert!(!loaded(&ruleset(-300, vec![rule("ip", "ttl", json!(6))])).v4);
        let one = loaded(&ruleset(-300, vec![good()]));
        assert_eq!((one.v4, one.v6, one.table), (true, false, true));
        let finding = of_loaded(true, "", one);
        assert_eq!(finding.state, State::Warning);
        assert!(
            finding.mend.unwrap().starts_with("sudo nft delete table inet homa\nsudo nft -f -")
        );
        assert_eq!(of_loaded(false, "", Loaded::default()).state, State::Ok);
    }

    #[test]
    fn a_firewall_that_drops_such_packets_is_named() {
        let left = json!({"ct": {"key": "state"}});
        for right in [json!("invalid"), json!(["invalid", "untracked"])] {
            let one = json!({"match": {"op": "in", "left": left, "right": right}});
            let rule = json!({"rule": {"expr": [one, {"counter": {}}, {"drop": null}]}});
            let found = loaded(&json!({"nftables": [rule]}));
            assert!(found.drops_invalid);
            assert!(of_loaded(true, "", found).meaning.contains("do not arrive"));
        }
        assert_eq!(loaded(&json!({})), Loaded::default());
    }
}
