//! Settings by their names: those of [`Config`]'s fields with their groups, such as
//! `grants.max_overcommit`. Plans, `--set`, agents and results all use these.

use std::collections::HashSet;

use homa_transport::Config;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use toml::{Table, Value as Toml};

use super::value::Value;

/// A setting of [`Config`].
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    get: fn(&Config) -> Toml,
    /// Fails with what the value must be.
    set: fn(&mut Config, &Toml) -> Result<(), &'static str>,
}

/// The settings of groups and fields of [`Config`].
macro_rules! settings {
    ($($group:ident { $($field:ident),+ $(,)? })+) => {
        &[$($(Setting {
            name: concat!(stringify!($group), ".", stringify!($field)),
            get: |config| config.$group.$field.to_toml(),
            set: |config, value| assign(&mut config.$group.$field, value),
        }),+),+]
    };
}

fn assign<T: Value>(field: &mut T, value: &Toml) -> Result<(), &'static str> {
    *field = T::from_toml(value).ok_or(T::KIND)?;
    Ok(())
}

/// All settings, by group.
pub static SETTINGS: &[Setting] = settings! {
    limits { max_message_bytes, frame_bytes, receive_memory_bytes, max_rpcs }
    unscheduled { bytes, remainder_bytes, in_flight_max_bytes }
    grants {
        max_overcommit, max_incoming_bytes, incoming_packets_min, window_bytes,
        window_rtt_percent, step_bytes, boost_bytes, fifo_permille,
    }
    priorities { count, cutoffs }
    output {
        link_mbps, max_link_usage_percent, max_nic_backlog, quantum, defer_min_bytes,
        fifo_permille, mtu_max,
    }
    recovery { resend_interval, timeout, finished_memory, quiet_time }
    responses { unacknowledged_bytes, silence, request_ack_interval }
    peers { max, discover }
};

/// A setting that cannot be as it is given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("setting `{name}` must be {must_be}")]
#[non_exhaustive]
pub struct SettingError {
    /// Name of the setting, as given.
    pub name: String,
    /// What it must be.
    pub must_be: String,
}

impl From<homa_core::ConfigError> for SettingError {
    fn from(error: homa_core::ConfigError) -> Self {
        SettingError { name: error.setting.to_owned(), must_be: error.must_be.to_owned() }
    }
}

/// Changes one setting; ranges are not checked.
///
/// # Errors
/// There is no such setting, or its values are of another kind.
pub fn set(config: &mut Config, name: &str, value: &Toml) -> Result<&'static str, SettingError> {
    let wrong = |must_be: String| SettingError { name: name.to_owned(), must_be };
    let setting = find(name).ok_or_else(|| wrong(instead_of(name)))?;
    (setting.set)(config, value).map_err(|kind| wrong(format!("{kind}; it is {value}")))?;
    Ok(setting.name)
}

/// Changes the settings of a table, in which groups are tables. Returns the names of what was
/// given; ranges are not checked.
///
/// # Errors
/// As [`set`], for the first that is wrong.
pub fn apply(config: &mut Config, given: &Table) -> Result<Vec<&'static str>, SettingError> {
    let mut names = Vec::new();
    let mut open = vec![(String::new(), given)];
    while let Some((group, table)) = open.pop() {
        for (key, value) in table {
            let name = if group.is_empty() { key.clone() } else { format!("{group}.{key}") };
            match value.as_table() {
                Some(inner) if find(&name).is_none() => open.push((name, inner)),
                _ => names.push(set(config, &name, value)?),
            }
        }
    }
    Ok(names)
}

/// All settings as a table, from which [`apply`] makes the same again.
pub fn table(config: &Config) -> Table {
    let mut groups = Table::new();
    for setting in SETTINGS {
        let (group, field) = setting.name.split_once('.').unwrap_or(("", setting.name));
        let group = groups.entry(group).or_insert_with(|| Toml::Table(Table::new()));
        if let Some(group) = group.as_table_mut() {
            group.insert(field.to_owned(), (setting.get)(config));
        }
    }
    groups
}

/// Puts the settings of one table into another, group by group.
pub fn merge(into: &mut Table, change: Table) {
    for (key, value) in change {
        match (into.get_mut(&key), value) {
            (Some(Toml::Table(group)), Toml::Table(change)) => merge(group, change),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// For `#[serde(with)]`: settings as [`table`] gives them.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(config: &Config, serializer: S) -> Result<S::Ok, S::Error> {
    table(config).serialize(serializer)
}

/// For `#[serde(with)]`: the defaults with the settings of a table.
///
/// # Errors
/// As [`apply`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
    let mut config = Config::default();
    apply(&mut config, &Table::deserialize(deserializer)?).map_err(D::Error::custom)?;
    Ok(config)
}

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// What to write instead of a name that is none: those nearest to it, or all.
fn instead_of(name: &str) -> String {
    const SHOWN: usize = 4;
    let mut near: Vec<(f64, &str)> =
        SETTINGS.iter().map(|setting| (nearness(setting.name, name), setting.name)).collect();
    near.retain(|(share, _)| *share > 0.0);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<String> = match near.is_empty() {
        true => SETTINGS.iter().map(|setting| setting.name.to_owned()).collect(),
        false => near.iter().take(SHOWN).map(|(_, name)| format!("`{name}`")).collect(),
    };
    match near.is_empty() {
        true => format!("one of {}", names.join(", ")),
        false => format!("the name of a setting, such as {}", names.join(", ")),
    }
}

/// Share of the words of two names that both have; words that begin alike count as the same.
fn nearness(one: &str, other: &str) -> f64 {
    let words = |name: &str| -> HashSet<String> {
        let words = name.split(['.', '_']).filter(|word| !word.is_empty());
        words.map(|word| word.chars().take(4).collect()).collect()
    };
    let (one, other) = (words(one), words(other));
    let both = one.intersection(&other).count();
    both as f64 / one.union(&other).count().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value other than the default's, of the same kind.
    fn another(value: &Toml) -> Toml {
        match value {
            Toml::Integer(number) => Toml::Integer(number + 1),
            Toml::Boolean(flag) => Toml::Boolean(!flag),
            Toml::String(_) => Toml::String("1s 7us".to_owned()),
            Toml::Table(_) => Toml::Array(
                (0..8).map(|level| Toml::Integer(i64::from(u32::MAX >> 1) - level)).collect(),
            ),
            other => panic!("no setting is like {other}"),
        }
    }

    fn text(setting: &Setting, value: &Toml) -> String {
        format!("{} = {value}", setting.name)
    }

    #[test]
    fn every_setting_is_set_by_its_name_and_read_again_and_no_other_changes() {
        let mut all = Config::default();
        for setting in SETTINGS {
            let value = another(&(setting.get)(&Config::default()));
            let mut one = Config::default();
            let given: Table = toml::from_str(&text(setting, &value)).unwrap();
            assert_eq!(apply(&mut one, &given).unwrap(), [setting.name]);
            assert_eq!((setting.get)(&one), value, "{}", setting.name);
            let changed =
                SETTINGS.iter().filter(|it| (it.get)(&one) != (it.get)(&Config::default()));
            assert_eq!(changed.map(|it| it.name).collect::<Vec<_>>(), [setting.name]);
            set(&mut all, setting.name, &value).unwrap();
        }
        for config in [Config::default(), all] {
            let written = toml::to_string(&table(&config)).unwrap();
            let mut read = Config::default();
            apply(&mut read, &toml::from_str(&written).unwrap()).unwrap();
            assert_eq!(read, config, "{written}");
            let json = serde_json::to_string(&table(&config)).unwrap();
            let read = deserialize(&mut serde_json::Deserializer::from_str(&json)).unwrap();
            assert_eq!(read, config, "{json}");
        }
    }

    #[test]
    fn every_public_field_of_the_engines_settings_has_a_name() {
        // The groups are at the first level of the text, their fields at the second.
        let shown = format!("{:#?}", Config::default());
        let (mut group, mut fields) = (String::new(), Vec::new());
        for line in shown.lines() {
            let indent = line.len() - line.trim_start().len();
            let Some((name, _)) = line.trim_start().split_once(':') else { continue };
            match indent {
                4 => group = name.to_owned(),
                8 if group != "fixed" => fields.push(format!("{group}.{name}")),
                _ => {}
            }
        }
        let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(fields, names);
    }

    #[test]
    fn a_wrong_name_is_answered_with_those_near_it() {
        let error = |name: &str| {
            let error = set(&mut Config::default(), name, &Toml::Integer(1)).unwrap_err();
            assert_eq!(error.name, name);
            error.must_be
        };
        for (wrong, right) in [
            ("num_priorities", "`priorities.count`"),
            ("grants.overcommit", "`grants.max_overcommit`"),
            ("max_overcomit", "`grants.max_overcommit`"),
            ("unscheduled_bytes", "`unscheduled.bytes`"),
            ("grant_step_bytes", "`grants.step_bytes`"),
            ("pacer_fifo_permille", "`output.fifo_permille`"),
            ("resend_interval_us", "`recovery.resend_interval`"),
            ("grants", "`grants.max_overcommit`"),
        ] {
            let text = error(wrong);
            assert!(
                text.starts_with("the name of a setting, such as") && text.contains(right),
                "{text}"
            );
            assert!(text.matches('`').count() <= 8, "not all of them: {text}");
        }
        let all = error("frobnicate");
        assert!(SETTINGS.iter().all(|setting| all.contains(setting.name)), "{all}");
    }

    #[test]
    fn a_wrong_kind_is_answered_with_the_right_one() {
        for (given, must_be) in [
            ("grants.max_overcommit = \"x\"", "a whole number of 0 to 255; it is \"x\""),
            ("grants.max_overcommit = 256", "a whole number of 0 to 255; it is 256"),
            ("grants.fifo_permille = -1", "a whole number of 0 to 65535; it is -1"),
            ("output.mtu_max = 1.5", "a whole number of 0 to 4294967295; it is 1.5"),
            ("output.link_mbps = \"1G\"", "a whole number of 0 (unknown) to"),
            ("limits.receive_memory_bytes = true", "a whole number of at least 0"),
            ("recovery.timeout = 5", "a time with its unit, such as \"5us\""),
            ("recovery.timeout = \"5 parsecs\"", "a time with its unit"),
            ("peers.discover = 1", "true or false"),
            ("priorities.cutoffs = [1, 2]", "eight lengths in bytes"),
            ("priorities.cutoffs.often = 1", "a table of `interval`, `messages_min`"),
        ] {
            let error = apply(&mut Config::default(), &toml::from_str(given).unwrap()).unwrap_err();
            assert!(given.starts_with(&error.name), "{error}");
            assert!(error.must_be.contains(must_be), "{given}: {error}");
        }
    }

    #[test]
    fn parts_of_automatic_cutoffs_leave_the_others() {
        let mut config = Config::default();
        apply(&mut config, &toml::from_str("priorities.cutoffs.messages_min = 5").unwrap())
            .unwrap();
        let shown = table(&config)["priorities"]["cutoffs"].to_string();
        assert!(
            shown.contains("messages_min = 5") && shown.contains("interval = \"1s\""),
            "{shown}"
        );
    }
}
