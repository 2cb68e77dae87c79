//! Criterion benchmarks: see `benches/`.
