//! Tables for terminals.

use comfy_table::{CellAlignment, Table, TableComponent, presets::NOTHING};

/// Columns, as wide as what is in them, with a line under their names. Those of the numbers `words`
/// are aligned to the left, all others to the right.
///
/// ```
/// let rows = vec![vec!["tcp".to_owned(), "1,000".to_owned()]];
/// let text = homa_report::table::table(["", "RPC/s"].map(str::to_owned).to_vec(), rows, &[0]);
/// assert_eq!(text, "      RPC/s\n───── ───────\ntcp   1,000\n");
/// ```
pub fn table(header: Vec<String>, rows: Vec<Vec<String>>, words: &[usize]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_style(TableComponent::MiddleHeaderIntersections, ' ');
    table.set_header(header).add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if !words.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}
