//! Counting the instructions of an operation.

use std::{env, error::Error, ffi::OsString, fs, io, process::Command};

use crate::operations::{COUNTED, TIMES};

/// The C library chooses its `memcpy` and `memset` by what the processor offers. Without
/// these features it chooses the same ones on every x86-64 processor. Other architectures
/// know none of the names.
const SAME_MEMCPY: &str = "glibc.cpu.hwcaps=\
    -AVX512F,-AVX512VL,-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSSE3";

/// Instructions that an operation takes, by running this program under callgrind.
pub fn instructions(operation: &str) -> Result<f64, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let counts = directory.path().join("counts");
    let mut out_file = OsString::from("--callgrind-out-file=");
    out_file.push(&counts);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(out_file)
        .arg(env::current_exe()?)
        .args(["--perform", operation])
        .env("GLIBC_TUNABLES", SAME_MEMCPY)
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "valgrind is not installed; on Debian and Ubuntu: apt-get install valgrind".into()
            }
            _ => Box::<dyn Error>::from(error),
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{operation:?} under valgrind: {}\n{said}", output.status).into());
    }
    let counts = fs::read_to_string(counts)?;
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.ok_or("callgrind has written no total")?.trim().parse()?;
    if total == 0 {
        return Err(format!("{operation:?}: callgrind has counted nothing").into());
    }
    Ok(total as f64 / TIMES as f64)
}
