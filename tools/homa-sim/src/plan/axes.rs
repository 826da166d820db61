//! Axes of a plan: keys with a list of values, and the product of them.

use homa_bench::plan::{PlanError, Source};
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

/// A key with several values.
pub(super) struct Axis<'a> {
    /// The key and the tables that it is in, the outermost first.
    path: Vec<String>,
    values: Vec<Spanned<DeValue<'a>>>,
    /// Where it begins in the text.
    begins: usize,
}

/// Keys whose value is a list; a list of lists is an axis.
const LISTS: [&str; 4] =
    ["homa.priorities.cutoffs", "network.switch", "network.link", "network.failure"];

/// Takes all axes from a table, in the order of the text.
pub(super) fn take<'a>(
    source: &Source<'_>,
    table: &mut DeTable<'a>,
) -> Result<Vec<Axis<'a>>, PlanError> {
    let mut axes = Vec::new();
    find(source, table, &[], &mut axes)?;
    axes.sort_by_key(|axis| axis.begins);
    Ok(axes)
}

fn find<'a>(
    source: &Source<'_>,
    table: &mut DeTable<'a>,
    within: &[String],
    axes: &mut Vec<Axis<'a>>,
) -> Result<(), PlanError> {
    for (key, value) in table.iter_mut() {
        let begins = value.span().start;
        let path = [within, &[key.get_ref().to_string()]].concat();
        match value.get_mut() {
            DeValue::Table(inner) => find(source, inner, &path, axes)?,
            DeValue::Array(values) if is_axis(&path, values) => {
                if values.is_empty() {
                    let line = source.line(begins);
                    let key = path.join(".");
                    return Err(source.wrong(&format!("line {line}: `{key}` has no value")));
                }
                axes.push(Axis { path, values: values.to_vec(), begins });
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_axis(path: &[String], values: &[Spanned<DeValue<'_>>]) -> bool {
    let is_list = |value: &Spanned<DeValue<'_>>| value.get_ref().as_array().is_some();
    !LISTS.contains(&path.join(".").as_str()) || values.iter().any(is_list)
}

/// Number of combinations; `None` for more than can be counted.
pub(super) fn count(axes: &[Axis<'_>]) -> Option<usize> {
    axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.values.len()))
}

/// The combination `index` of the axes put into a table, and its values.
pub(super) fn combination<'a>(
    table: &Spanned<DeTable<'a>>,
    axes: &[Axis<'a>],
    index: usize,
) -> (Spanned<DeTable<'a>>, Vec<(String, Value)>) {
    let mut table = table.clone();
    let mut rest = index;
    let mut values = Vec::new();
    for axis in axes.iter().rev() {
        let value = &axis.values[rest % axis.values.len()];
        rest /= axis.values.len();
        put(table.get_mut(), &axis.path, value);
        values.push((axis.path.join("."), plain(value.get_ref())));
    }
    values.reverse();
    (table, values)
}

/// Puts a value where its axis was.
fn put<'a>(table: &mut DeTable<'a>, path: &[String], value: &Spanned<DeValue<'a>>) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(found) = table.get_mut(first.as_str()) else { return };
    match (rest.is_empty(), found.get_mut()) {
        (true, _) => *found = value.clone(),
        (false, DeValue::Table(inner)) => put(inner, rest, value),
        (false, _) => {}
    }
}

/// The value without its place.
fn plain(value: &DeValue<'_>) -> Value {
    Value::try_from(Plain(value)).unwrap_or_else(|_| Value::String("?".to_owned()))
}

/// A value as it is shown.
struct Plain<'a>(&'a DeValue<'a>);

impl serde::Serialize for Plain<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            DeValue::String(text) => serializer.serialize_str(text),
            DeValue::Boolean(flag) => serializer.serialize_bool(*flag),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => serializer.serialize_i64(number),
                    Err(_) => serializer.serialize_str(number.as_str()),
                }
            }
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) => serializer.serialize_f64(number),
                Err(_) => serializer.serialize_str(number.as_str()),
            },
            DeValue::Datetime(time) => serializer.collect_str(time),
            DeValue::Array(values) => {
                serializer.collect_seq(values.iter().map(|value| Plain(value.get_ref())))
            }
            DeValue::Table(table) => serializer.collect_map(
                table.iter().map(|(key, value)| (key.get_ref(), Plain(value.get_ref()))),
            ),
        }
    }
}
