//! A moment of a simulation on a terminal.

use homa_report::format::thousands;
use ratatui_core::{
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    terminal::Frame,
    text::Line,
};
use ratatui_widgets::{
    gauge::Gauge,
    paragraph::Paragraph,
    table::{Cell, Row, Table},
};

use super::look::{Busy, Ports, Slow, View};
use crate::units::format_size;

/// As long as it goes on, and then.
const ENDS: [&str; 2] = ["q: end the simulation", "the simulation is over; q: leave"];

/// Draws it over the whole terminal.
pub(super) fn draw(frame: &mut Frame<'_>, title: &str, view: &View, is_over: bool) {
    let lines = view.ports.iter().map(|ports| 1 + ports.busiest.len()).sum::<usize>();
    let ports_height = Constraint::Length(u16::try_from(lines + 1).unwrap_or(u16::MAX));
    let line = Constraint::Length(1);
    let areas: [Rect; 8] =
        Layout::vertical([line, line, line, line, ports_height, line, Constraint::Min(3), line])
            .areas(frame.area());
    let [top, bar, figures, _, ports, _, worst, bottom] = areas;
    frame.render_widget(Line::from(title).style(bold()), top);
    frame.render_widget(progress(view), bar);
    frame.render_widget(Paragraph::new(messages(view)), figures);
    frame.render_widget(port_table(&view.ports), ports);
    frame.render_widget(worst_table(&view.worst), worst);
    frame.render_widget(Line::from(ENDS[usize::from(is_over)]), bottom);
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn progress(view: &View) -> Gauge<'static> {
    let (time, length) = (view.time_us / 1e3, view.length_us / 1e3);
    let label = format!("{:.0} %: {time:.1} ms, of load {length:.1} ms", 100.0 * view.part);
    Gauge::default().ratio(view.part.clamp(0.0, 1.0)).label(label)
}

fn messages(view: &View) -> String {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    format!(
        "{} messages begun, {} arrived; slowdown P50 {}, P99 {}",
        thousands(view.begun as f64),
        thousands(view.ended as f64),
        figure(view.slowdown_p50),
        figure(view.slowdown_p99)
    )
}

fn port_table(ports: &[Ports]) -> Table<'static> {
    let cells = |name: String, busy: &Busy| {
        let figures = [
            format!("{:.0} %", 100.0 * busy.utilization),
            format_size(busy.queued_bytes),
            format_size(busy.queued_bytes_max),
        ];
        row(name, figures)
    };
    let rows = ports.iter().flat_map(|ports| {
        let name = ports.kind.name();
        let all = cells(format!("{name}, mean of {}", ports.count), &ports.all);
        let busiest =
            ports.busiest.iter().map(move |(index, busy)| cells(format!("  {name} {index}"), busy));
        std::iter::once(all).chain(busiest)
    });
    let header = row("ports".to_owned(), ["busy", "queue", "longest"].map(str::to_owned));
    Table::new(rows, [Constraint::Length(26), WIDTH, WIDTH, WIDTH]).header(header.style(bold()))
}

fn worst_table(worst: &[Slow]) -> Table<'static> {
    let cells = |slow: &Slow| {
        let state = if slow.has_arrived { "arrived" } else { "under way" };
        let figures = [
            format!("{:.1}", slow.slowdown),
            format!("{:.1} µs", slow.age_us),
            format_size(slow.message_bytes.into()),
        ];
        row(format!("{} to {}, {state}", slow.from, slow.to), figures)
    };
    let header = ["slowdown", "time", "size"].map(str::to_owned);
    let header = row("slowest messages".to_owned(), header);
    let rows = worst.iter().map(cells);
    Table::new(rows, [Constraint::Length(26), WIDTH, WIDTH, WIDTH]).header(header.style(bold()))
}

/// Of a figure.
const WIDTH: Constraint = Constraint::Length(14);

/// A name at the left and figures at the right.
fn row(name: String, figures: [String; 3]) -> Row<'static> {
    let figures = figures.map(|figure| Cell::from(Line::from(figure).right_aligned()));
    Row::new(std::iter::once(Cell::from(name)).chain(figures))
}

#[cfg(test)]
mod tests {
    use homa_sim::PortKind;
    use ratatui_core::{backend::TestBackend, terminal::Terminal};

    use super::*;

    fn view() -> View {
        let busy = Busy { utilization: 0.75, queued_bytes: 3_000, queued_bytes_max: 42_000 };
        let all = Busy { utilization: 0.5, queued_bytes: 100, ..busy };
        let kinds = [PortKind::HostUp, PortKind::RackDown];
        let ports = |kind| Ports { kind, count: 16, all, busiest: vec![(7, busy), (3, busy)] };
        let slow = Slow {
            message_bytes: 1_460,
            from: 3,
            to: 14,
            age_us: 123.45,
            slowdown: 57.6,
            has_arrived: false,
        };
        View {
            part: 0.42,
            time_us: 12_300.0,
            length_us: 29_100.0,
            begun: 12_345,
            ended: 12_300,
            slowdown_p50: Some(1.05),
            slowdown_p99: None,
            ports: kinds.map(ports).to_vec(),
            worst: vec![slow, Slow { has_arrived: true, slowdown: 9.0, ..slow }],
        }
    }

    /// The lines of a terminal of this size, without the space at their ends.
    fn drawn(width: u16, height: u16, view: &View, is_over: bool) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, "w4, homa: 16 hosts", view, is_over)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let lines = buffer.content().chunks(usize::from(width)).map(|cells| {
            let line: String = cells.iter().map(|cell| cell.symbol()).collect();
            line.trim_end().to_owned()
        });
        lines.collect()
    }

    #[test]
    fn progress_ports_and_the_worst_messages_stand_on_a_terminal_of_80_by_24() {
        let lines = drawn(80, 24, &view(), false);
        assert_eq!(lines[0], "w4, homa: 16 hosts");
        assert!(lines[1].contains("42 %: 12.3 ms, of load 29.1 ms"), "{lines:?}");
        assert_eq!(lines[2], "12,345 messages begun, 12,300 arrived; slowdown P50 1.05, P99 -");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = [
            "ports busy queue longest",
            "host up, mean of 16 50 % 100 B 42 kB",
            "host up 7 75 % 3 kB 42 kB",
            "host up 3 75 % 3 kB 42 kB",
            "ToR down, mean of 16 50 % 100 B 42 kB",
            "ToR down 7 75 % 3 kB 42 kB",
            "ToR down 3 75 % 3 kB 42 kB",
            "",
            "slowest messages slowdown time size",
            "3 to 14, under way 57.6 123.5 µs 1.46 kB",
            "3 to 14, arrived 9.0 123.5 µs 1.46 kB",
        ];
        let shown: Vec<_> = lines[4..15].iter().map(|line| words(line)).collect();
        assert_eq!(shown, expected);
        assert_eq!(lines[23], "q: end the simulation");
        assert_eq!(drawn(80, 24, &view(), true)[23], "the simulation is over; q: leave");
    }

    #[test]
    fn terminals_of_any_size_show_what_they_can() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (200, 100)] {
            let lines = drawn(width, height, &view(), false);
            assert_eq!(lines.len(), usize::from(height));
        }
        drawn(80, 24, &View::default(), false);
    }
}
