//! Studies: runs of one plan that differ in a setting.

use serde_json::Value;

use crate::{
    chart::{Axis, Chart, Line, Palette, Point, Series, Tick},
    format::{number, plain, trimmed},
    names::name,
    run::Run,
    summary::Summary,
};

/// Runs of one plan.
#[derive(Debug)]
pub(crate) struct Study<'a> {
    /// Title of the plan.
    pub title: &'a str,
    /// Name of the setting that differs, or `variant` if several do.
    pub setting: String,
    /// The setting's value as a number, if it is one everywhere, with the run.
    runs: Vec<(Option<f64>, String, &'a Run)>,
}

/// Which messages a study shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The shortest tenth.
    Short,
    /// The longest tenth.
    Long,
}

impl Part {
    /// P99 slowdown of these messages.
    pub(crate) fn p99(self, summary: &Summary) -> Option<f64> {
        let deciles = &summary.deciles;
        let decile = match self {
            Part::Short => deciles.first(),
            Part::Long => deciles.last(),
        };
        decile.map(|decile| decile.slowdown().p99)
    }

    /// How these messages are called.
    fn word(self) -> &'static str {
        match self {
            Part::Short => "short",
            Part::Long => "long",
        }
    }
}

/// Groups runs of the same plan that are named variants of it; groups of one are no study.
pub(crate) fn studies(runs: &[Run]) -> Vec<Study<'_>> {
    let mut groups: Vec<(&str, Vec<&Run>)> = Vec::new();
    for run in runs.iter().filter(|run| !run.document.variant.is_empty()) {
        let title = run.document.text("/title").unwrap_or("study");
        match groups.iter_mut().find(|group| group.0 == title) {
            Some(group) => group.1.push(run),
            None => groups.push((title, vec![run])),
        }
    }
    groups
        .into_iter()
        .filter(|group| group.1.len() > 1)
        .map(|group| study(group.0, &group.1))
        .collect()
}

fn study<'a>(title: &'a str, runs: &[&'a Run]) -> Study<'a> {
    let settings: Vec<Vec<(String, Value)>> =
        runs.iter().map(|run| flat(&run.document.plan)).collect();
    let mut differing: Vec<&str> = Vec::new();
    for (key, _) in settings.iter().flatten() {
        let value = |settings: &[(String, Value)]| {
            settings.iter().find(|setting| setting.0 == *key).map(|setting| setting.1.clone())
        };
        let first = settings.first().and_then(|settings| value(settings));
        let differs = settings.iter().any(|settings| value(settings) != first);
        // Words differ between variants without being what is studied.
        if differs
            && !differing.contains(&key.as_str())
            && !["title", "expect"].contains(&key.as_str())
        {
            differing.push(key);
        }
    }
    let [only] = differing[..] else {
        let runs = runs.iter().map(|run| (None, run.document.variant.clone(), *run));
        return Study { title, setting: "Variant".to_owned(), runs: runs.collect() };
    };
    let value = |settings: &[(String, Value)]| {
        settings.iter().find(|setting| setting.0 == only).and_then(|setting| quantity(&setting.1))
    };
    let mut found: Vec<_> = runs
        .iter()
        .zip(&settings)
        .map(|(run, settings)| (value(settings), run.document.variant.clone(), *run))
        .collect();
    if found.iter().all(|run| run.0.is_some()) {
        found.sort_by(|a, b| a.0.unwrap_or(0.0).total_cmp(&b.0.unwrap_or(0.0)));
    }
    Study { title, setting: name(only), runs: found }
}

/// Keys with dots and values of a plan; lists are values.
fn flat(plan: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), plan)];
    while let Some((name, value)) = open.pop() {
        match value {
            Value::Object(map) => {
                open.extend(map.iter().map(|(key, value)| match name.is_empty() {
                    true => (key.clone(), value),
                    false => (format!("{name}.{key}"), value),
                }))
            }
            value => found.push((name, value.clone())),
        }
    }
    found
}

/// Numbers, and rates such as `"100M"`.
fn quantity(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.strip_suffix('M')?.parse().ok())
}

impl<'a> Study<'a> {
    /// The runs in order, with the value of the setting in words.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (String, &'a Run)> {
        self.runs.iter().map(|(value, variant, run)| match value {
            Some(value) => (trimmed(*value, 4), *run),
            None => (variant.clone(), *run),
        })
    }

    /// What the plan expects, if that is the same for all runs.
    pub(crate) fn expected(&self) -> Option<&'a str> {
        let mut texts = self.runs.iter().map(|run| run.2.document.text("/expect"));
        let first = texts.next()??;
        texts.all(|text| text == Some(first)).then_some(first)
    }

    /// What was published, of all runs.
    pub(crate) fn published(&self) -> Vec<&'a str> {
        let mut found: Vec<&str> = Vec::new();
        for (_, _, run) in &self.runs {
            for text in run.document.published() {
                if !found.contains(&text) {
                    found.push(text);
                }
            }
        }
        found
    }

    /// Whether the setting is a number, so that something lies between its values.
    fn in_order(&self) -> bool {
        self.runs.iter().all(|run| run.0.is_some())
    }

    /// P99 slowdown of one tenth of the messages against the setting.
    pub(crate) fn chart(&self, part: Part, palette: &Palette) -> Option<Chart> {
        let names = Palette::of(self.runs.iter().flat_map(|run| run.2.names()));
        let series: Vec<Series> = names
            .names()
            .iter()
            .map(|name| self.series(part, name, palette))
            .filter(|series| !series.points.is_empty())
            .collect();
        let values = series.iter().flat_map(|series| series.points.iter().map(|point| point.y));
        let what = format!("P99 slowdown of {} messages", part.word());
        let y = Axis::log(&what, values.chain([1.0]), plain);
        // Two values are read more easily from the table.
        (!series.is_empty() && self.runs.len() > 2).then(|| Chart {
            name: "study",
            description: format!("{what} against {}", self.setting),
            title: None,
            width: 860.0,
            height: 400.0,
            x: self.axis(),
            y,
            series: series.clone(),
            references: Vec::new(),
            legend: true,
        })
    }

    /// One step for each run: settings are chosen by hand, and often double.
    fn axis(&self) -> Axis {
        let ticks =
            self.runs().enumerate().map(|(index, (label, _))| Tick { at: index as f64, label });
        Axis {
            label: self.setting.clone(),
            log: false,
            low: -0.3,
            high: self.runs.len() as f64 - 0.7,
            ticks: ticks.collect(),
            minor: Vec::new(),
        }
    }

    fn series(&self, part: Part, transport: &str, palette: &Palette) -> Series {
        let points = self.runs().enumerate().filter_map(|(index, (label, run))| {
            let found = run.transports.iter().find(|found| found.document.name == transport)?;
            let p99 = part.p99(&found.document.summary)?;
            let text = format!("{} at {label}", number(p99));
            (p99.is_finite() && p99 > 0.0).then_some(Point { x: index as f64, y: p99, text })
        });
        let style = palette.style(transport);
        Series {
            name: transport.to_owned(),
            part: "",
            class: format!("c{style}"),
            mark: Some(style),
            line: if self.in_order() { Line::Solid } else { Line::Marks },
            points: points.collect(),
        }
    }
}
