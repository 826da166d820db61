//! Values of settings as plans, command lines and results write them.

use std::time::Duration;

use homa_core::{CutoffSource, Cutoffs};
use toml::{Table, Value as Toml};

/// A value that can be written down and read again.
pub(super) trait Value: Sized {
    /// What a text must give, for a message.
    const KIND: &'static str;

    fn to_toml(&self) -> Toml;

    /// The value, unless it is of another kind.
    fn from_toml(value: &Toml) -> Option<Self>;
}

macro_rules! whole_numbers {
    ($($type:ty: $kind:literal,)+) => { $(
        impl Value for $type {
            const KIND: &'static str = $kind;

            fn to_toml(&self) -> Toml {
                Toml::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }

            fn from_toml(value: &Toml) -> Option<Self> {
                value.as_integer()?.try_into().ok()
            }
        }
    )+ };
}

whole_numbers! {
    u8: "a whole number of 0 to 255",
    u16: "a whole number of 0 to 65535",
    u32: "a whole number of 0 to 4294967295",
    u64: "a whole number of at least 0",
}

impl Value for Option<u32> {
    const KIND: &'static str = "a whole number of 0 (unknown) to 4294967295";

    fn to_toml(&self) -> Toml {
        self.unwrap_or(0).to_toml()
    }

    fn from_toml(value: &Toml) -> Option<Self> {
        u32::from_toml(value).map(|number| (number > 0).then_some(number))
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";

    fn to_toml(&self) -> Toml {
        Toml::Boolean(*self)
    }

    fn from_toml(value: &Toml) -> Option<Self> {
        value.as_bool()
    }
}

impl Value for Duration {
    const KIND: &'static str = "a time with its unit, such as \"5us\" or \"1s 500ms\"";

    fn to_toml(&self) -> Toml {
        Toml::String(humantime::format_duration(*self).to_string())
    }

    fn from_toml(value: &Toml) -> Option<Self> {
        humantime::parse_duration(value.as_str()?).ok()
    }
}

impl Value for CutoffSource {
    const KIND: &'static str = "eight lengths in bytes, that of priority 0 first, or a table of \
                                `interval`, `messages_min` and `drift_min_permille`";

    fn to_toml(&self) -> Toml {
        match self {
            CutoffSource::Fixed(cutoffs) => {
                Toml::Array(cutoffs.levels().iter().map(Value::to_toml).collect())
            }
            CutoffSource::Automatic { interval, messages_min, drift_min_permille } => {
                Toml::Table(Table::from_iter([
                    ("interval".to_owned(), interval.to_toml()),
                    ("messages_min".to_owned(), messages_min.to_toml()),
                    ("drift_min_permille".to_owned(), drift_min_permille.to_toml()),
                ]))
            }
            _ => Toml::Table(Table::new()),
        }
    }

    /// What a table leaves out has its default.
    fn from_toml(value: &Toml) -> Option<Self> {
        let table = match value {
            Toml::Array(lengths) => {
                let lengths: Option<Vec<u32>> = lengths.iter().map(Value::from_toml).collect();
                return Some(CutoffSource::Fixed(Cutoffs::new(lengths?.try_into().ok()?)));
            }
            value => value.as_table()?,
        };
        let mut source = CutoffSource::default();
        let CutoffSource::Automatic { interval, messages_min, drift_min_permille } = &mut source
        else {
            return None;
        };
        for (key, value) in table {
            match key.as_str() {
                "interval" => *interval = Value::from_toml(value)?,
                "messages_min" => *messages_min = Value::from_toml(value)?,
                "drift_min_permille" => *drift_min_permille = Value::from_toml(value)?,
                _ => return None,
            }
        }
        Some(source)
    }
}
