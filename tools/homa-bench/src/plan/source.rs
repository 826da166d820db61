//! The text of a plan file: a base and variants of it, and where things are in it.

use std::path::Path;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use super::PlanError;

/// The text of a plan, to name places in it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

/// A variant's name and its whole table; one without name if the file has no variants.
pub type Variant<'a> = (String, Spanned<DeTable<'a>>);

impl<'a> Source<'a> {
    /// The text of the file at `path`.
    pub fn new(text: &'a str, path: &'a Path) -> Self {
        Self { text, path }
    }

    /// The variants of the plan, each with what it does not change of the base.
    ///
    /// # Errors
    /// The text is no TOML, or a variant has no name of its own.
    pub fn variants(&self) -> Result<Vec<Variant<'a>>, PlanError> {
        let mut base = DeTable::parse(self.text).map_err(|error| self.wrong(&error.to_string()))?;
        let changes = self.changes(base.get_mut().remove("variant"))?;
        if changes.is_empty() {
            return Ok(vec![(String::new(), base)]);
        }
        let mut variants: Vec<Variant<'a>> = Vec::new();
        for mut change in changes {
            let line = self.line(change.span().start);
            let name = match change.get_mut().remove("name").map(Spanned::into_inner) {
                Some(DeValue::String(name)) if !name.trim().is_empty() => name.into_owned(),
                _ => {
                    return Err(self.wrong(&format!("line {line}: a [[variant]] needs a `name`")));
                }
            };
            if variants.iter().any(|(other, _)| *other == name) {
                return Err(self.wrong(&format!("line {line}: a second variant `{name}`")));
            }
            let mut whole = base.clone();
            merge(whole.get_mut(), change.into_inner());
            variants.push((name, whole));
        }
        Ok(variants)
    }

    /// The value of a whole table, checked; what is wrong with it is named with its place.
    ///
    /// # Errors
    /// A key or value that cannot be, or that `check` refuses.
    pub fn value<T: Deserialize<'a>, U>(
        &self,
        table: Spanned<DeTable<'a>>,
        check: impl FnOnce(T) -> Result<U, PlanError>,
    ) -> Result<U, PlanError> {
        let value = T::deserialize(Deserializer::from(table.clone())).map_err(|mut error| {
            error.set_input(Some(self.text));
            self.wrong(&error.to_string())
        })?;
        check(value).map_err(|error| match error {
            PlanError::Value { key, must_be, place: None } => {
                let offset = place(table.get_ref(), &key);
                let place = offset.map(|offset| (self.path.to_owned(), self.line(offset)));
                PlanError::Value { key, must_be, place }
            }
            other => other,
        })
    }

    /// The error of a text that is no plan.
    pub fn wrong(&self, reason: &str) -> PlanError {
        PlanError::Parse { path: self.path.to_owned(), reason: reason.trim_end().to_owned() }
    }

    /// The line of a byte, from 1.
    pub fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    fn changes(
        &self,
        found: Option<Spanned<DeValue<'a>>>,
    ) -> Result<Vec<Spanned<DeTable<'a>>>, PlanError> {
        let wrong = || self.wrong("`variant` must be written as [[variant]]");
        let list = match found.map(Spanned::into_inner) {
            None => return Ok(Vec::new()),
            Some(DeValue::Array(list)) => list,
            Some(_) => return Err(wrong()),
        };
        list.into_iter()
            .map(|one| match (one.span(), one.into_inner()) {
                (span, DeValue::Table(table)) => Ok(Spanned::new(span, table)),
                _ => Err(wrong()),
            })
            .collect()
    }
}

/// Where the value of a dotted key begins; of a table, if the key itself is not there.
fn place(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) =
        key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let found = table.get(first)?;
    let inner = rest.and_then(|rest| place(found.get_ref().as_table()?, rest));
    Some(inner.unwrap_or(found.span().start))
}

/// Puts the values of `change` into `base`, table by table.
fn merge<'a>(base: &mut DeTable<'a>, change: DeTable<'a>) {
    for (key, value) in change {
        let span = value.span();
        match (base.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut), value.into_inner()) {
            (Some(DeValue::Table(inner)), DeValue::Table(change)) => merge(inner, change),
            (_, value) => drop(base.insert(key, Spanned::new(span, value))),
        }
    }
}
