//! The text format of Prometheus, version 0.0.4.

use crabtree_actors::meters::Distribution;
use std::fmt::{Display, Write};

/// Microseconds of a second.
const MICROS: f64 = 1e6;

/// What has been written so far.
#[derive(Default)]
pub struct Exposition {
    pub text: String,
    name: String,
}

impl Exposition {
    /// Begins a metric; its samples follow.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample of the metric that was begun.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }

    /// A metric of one sample that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(&[], value);
    }

    /// A metric of one sample that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(&format!("{name}_total"), "counter", help);
        self.sample(&[], value);
    }

    /// A metric that only grows, by labels.
    pub fn counters<const N: usize>(
        &mut self,
        (name, labels): (&str, [&str; N]),
        help: &str,
        samples: impl IntoIterator<Item = ([String; N], u64)>,
    ) {
        self.family(&format!("{name}_total"), "counter", help);
        self.samples(labels, samples);
    }

    /// A metric that goes up and down, by labels.
    pub fn gauges<const N: usize, V: Display>(
        &mut self,
        (name, labels): (&str, [&str; N]),
        help: &str,
        samples: impl IntoIterator<Item = ([String; N], V)>,
    ) {
        self.family(name, "gauge", help);
        self.samples(labels, samples);
    }

    /// Samples of the metric that was begun.
    pub fn samples<const N: usize, V: Display>(
        &mut self,
        labels: [&str; N],
        samples: impl IntoIterator<Item = ([String; N], V)>,
    ) {
        for (values, value) in samples {
            let pairs: Vec<_> = labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
            self.sample(&pairs, value);
        }
    }

    /// How long something takes, in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, read: &Distribution) {
        self.family(name, "histogram", help);
        for (bound, count) in &read.classes {
            self.line("_bucket", &[("le", &(*bound as f64 / MICROS).to_string())], count);
        }
        self.line("_bucket", &[("le", "+Inf")], read.count);
        self.line("_sum", &[], read.sum_us as f64 / MICROS);
        self.line("_count", &[], read.count);
    }
}

/// A label's value as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line_or_its_quotes() {
        assert_eq!(escaped("plain"), "plain");
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
        let mut out = Exposition::default();
        out.family("x", "gauge", "Help.");
        out.sample(&[("a", "1\"} 2\n"), ("b", "")], 7);
        out.counter("y", "Help.", 3);
        assert_eq!(
            out.text,
            "# HELP x Help.\n# TYPE x gauge\nx{a=\"1\\\"} 2\\n\",b=\"\"} 7\n# HELP y_total Help.\n# TYPE y_total counter\ny_total 3\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_everything() {
        let read = Distribution { classes: vec![(500, 1), (2_500_000, 3)], count: 4, sum_us: 70_000_000 };
        let mut out = Exposition::default();
        out.histogram("t_seconds", "Help.", &read);
        let samples: Vec<&str> = out.text.lines().skip(2).collect();
        let expected = [
            "t_seconds_bucket{le=\"0.0005\"} 1",
            "t_seconds_bucket{le=\"2.5\"} 3",
            "t_seconds_bucket{le=\"+Inf\"} 4",
            "t_seconds_sum 70",
            "t_seconds_count 4",
        ];
        assert_eq!(samples, expected);
    }
}
