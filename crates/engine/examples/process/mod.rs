//! What a process has used.

use std::error::Error;
use std::fs;

/// The kernel's clock ticks a second, on all Linux.
const TICKS: f64 = 100.0;

/// The CPU time of this process, all threads, the kernel's part included.
pub(crate) fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(str::parse::<f64>).sum::<Result<f64, _>>();
    Ok(ticks? / TICKS)
}
