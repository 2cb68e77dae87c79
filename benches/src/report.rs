use hdrhistogram::Histogram;
use serde::Serialize;

/// Times of one kind of operation, in nanoseconds.
#[derive(Debug)]
pub struct Times(Histogram<u64>);

/// The percentiles that are reported, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    pub p25: u64,
    pub p50: u64,
    pub p75: u64,
    pub p99: u64,
    pub p999: u64,
}

/// The quartiles of a figure that each turn has.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quartiles {
    pub p25: f64,
    pub p50: f64,
    pub p75: f64,
}

impl Times {
    pub fn new() -> Self {
        // Three digits, up to a minute; what is longer counts as a minute.
        let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3);
        Self(histogram.expect("the bounds are those that the crate allows"))
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    /// Forgets what was recorded.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Percentiles { p25: at(0.25), p50: at(0.5), p75: at(0.75), p99: at(0.99), p999: at(0.999) }
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<u64> for Times {
    fn from_iter<I: IntoIterator<Item = u64>>(times: I) -> Self {
        let mut all = Self::new();
        times.into_iter().for_each(|time| all.record(time));
        all
    }
}

impl Quartiles {
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            let last = figures.len().saturating_sub(1);
            figures.get((last * quarter + 2) / 4).copied().unwrap_or_default()
        };
        Self { p25: at(1), p50: at(2), p75: at(3) }
    }

    /// Each figure in another unit.
    pub fn scaled(self, factor: f64) -> Self {
        Self { p25: self.p25 * factor, p50: self.p50 * factor, p75: self.p75 * factor }
    }
}
