//! Families of metrics, gathered one after the other and written in Prometheus' text format.

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::{BUCKETS, Latency};

/// The families so far, in the order in which they are written.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

/// Label names, of a family; the values of each sample are as many.
type Names<'n, const N: usize> = [&'n str; N];

impl Families {
    /// Adds a counter without labels.
    pub(super) fn count(&mut self, name: &str, help: &str, value: u64) {
        self.counts::<&str, 0>(name, help, [], [([], value)]);
    }

    /// Adds a counter with a sample for each combination of labels.
    pub(super) fn counts<L: ToString, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: Names<'_, N>,
        samples: impl IntoIterator<Item = ([L; N], u64)>,
    ) {
        let samples = samples.into_iter().map(|(values, value)| (values, value as f64));
        self.family(name, help, MetricType::COUNTER, labels, samples);
    }

    /// Adds a counter of something that is no whole number.
    pub(super) fn measure(&mut self, name: &str, help: &str, value: f64) {
        self.family::<&str, 0>(name, help, MetricType::COUNTER, [], [([], value)]);
    }

    /// Adds a value that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges::<&str, 0>(name, help, [], [([], value)]);
    }

    /// Adds such values, one for each combination of labels.
    pub(super) fn gauges<L: ToString, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: Names<'_, N>,
        samples: impl IntoIterator<Item = ([L; N], f64)>,
    ) {
        self.family(name, help, MetricType::GAUGE, labels, samples);
    }

    /// Adds a histogram of times.
    pub(super) fn histogram(&mut self, name: &str, help: &str, latency: &Latency) {
        let mut so_far = 0;
        let buckets = BUCKETS.iter().zip(latency.counts).map(|(bound, count)| {
            so_far += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(so_far);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(latency.count);
        histogram.set_sample_sum(latency.sum);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.add(name, help, MetricType::HISTOGRAM, vec![metric]);
    }

    fn family<L: ToString, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        labels: Names<'_, N>,
        samples: impl IntoIterator<Item = ([L; N], f64)>,
    ) {
        let metrics = samples.into_iter().map(|(values, value)| {
            let pairs = labels.iter().zip(values).map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name((*name).to_owned());
                pair.set_value(value.to_string());
                pair
            });
            let mut metric = Metric::from_label(pairs.collect());
            if kind == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            metric
        });
        let metrics = metrics.collect();
        self.add(name, help, kind, metrics);
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        // A family of nothing, such as the collectors of a sensor that has none, is not told.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// The text of all.
    pub(super) fn text(&self) -> String {
        // It refuses families without a name or a sample, of which there are none.
        TextEncoder::new().encode_to_string(&self.0).unwrap_or_default()
    }
}
