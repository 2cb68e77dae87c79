use hdrhistogram::Histogram;
use serde::Serialize;

/// Times of one kind of operation, in nanoseconds.
#[derive(Debug)]
pub struct Times(Histogram<u64>);

/// The percentiles that are reported, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
}

impl Times {
    pub fn new() -> Self {
        // Three digits, up to ten seconds; what is longer counts as ten seconds.
        let histogram = Histogram::new_with_bounds(1, 10_000_000_000, 3);
        Self(histogram.expect("the bounds are those that the crate allows"))
    }

    pub fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    /// Forgets what was recorded.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            p50: self.0.value_at_quantile(0.5),
            p99: self.0.value_at_quantile(0.99),
            p999: self.0.value_at_quantile(0.999),
        }
    }
}

/// A median, and the bounds of the lowest and highest quarter.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quartiles {
    pub p50: f64,
    pub p25: f64,
    pub p75: f64,
}

impl Quartiles {
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get(values.len() * quarter / 4).copied();
        let at = |quarter| at(quarter).unwrap_or_default();
        Self { p50: at(2), p25: at(1), p75: at(3) }
    }
}
