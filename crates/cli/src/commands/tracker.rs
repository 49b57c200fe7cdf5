//! `riverrun tracker`: a tracker, until it is told to stop.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use riverrun_trackerd::{Running, Trackerd};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::progress::threads;
use crate::screen::Screen;
use crate::signals::{Interrupts, runtime};
use crate::values::Span;

/// Where a tracker listens if nothing is said: the port that most trackers have.
const DEFAULT_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 6969);

/// Clients are to wait this long at least between announces, or as long as they are to wait at all.
const INTERVAL_MIN_MAX: Duration = Duration::from_mins(5);

/// The arguments of `tracker`.
#[derive(Debug, clap::Args)]
pub(crate) struct Tracker {
    /// Listen here for HTTP; port 0 takes a free one [default: 0.0.0.0:6969, unless --udp is given]
    #[arg(long, value_name = "ADDR:PORT")]
    http: Vec<SocketAddr>,
    /// Listen here for UDP [default: 0.0.0.0:6969, unless --http is given]
    #[arg(long, value_name = "ADDR:PORT")]
    udp: Vec<SocketAddr>,
    /// How often clients are to announce
    #[arg(long, value_name = "TIME", default_value = "30m")]
    interval: Span,
}

pub(crate) fn run(args: &Tracker, screen: &mut Screen) -> Outcome {
    let runtime = runtime(threads().get())?;
    runtime.block_on(serve(args, screen))
}

async fn serve(args: &Tracker, screen: &mut Screen) -> Outcome {
    let mut interrupts = Interrupts::listen()?;
    let tracker = args.builder().start().await;
    let tracker = tracker.map_err(|e| Failure::new(ExitCode::Network, e))?;
    announce_urls(&tracker, screen)?;
    let stopped = interrupts.next().await;
    tracker.shutdown().await;
    screen.event(&json!({ "event": "done" }))?;
    Err(stopped.into_failure())
}

impl Tracker {
    fn builder(&self) -> Trackerd {
        let nowhere = self.http.is_empty() && self.udp.is_empty();
        let default = nowhere.then_some(DEFAULT_ADDR);
        let builder = Trackerd::builder()
            .interval(self.interval.0)
            .interval_min(self.interval.0.min(INTERVAL_MIN_MAX));
        let builder = self
            .http
            .iter()
            .copied()
            .chain(default)
            .fold(builder, Trackerd::http);
        self.udp
            .iter()
            .copied()
            .chain(default)
            .fold(builder, Trackerd::udp)
    }
}

/// Prints where it really listens: that is what goes into torrents.
fn announce_urls(tracker: &Running, screen: &mut Screen) -> Outcome {
    let http = tracker
        .http_addrs()
        .iter()
        .map(|addr| format!("http://{addr}/announce"));
    let udp = tracker
        .udp_addrs()
        .iter()
        .map(|addr| format!("udp://{addr}"));
    let urls: Vec<String> = http.chain(udp).collect();
    if screen.is_json() {
        return screen.event(&json!({ "event": "listening", "announce": urls }));
    }
    urls.iter().try_for_each(|url| screen.line(url))?;
    screen.flush()?;
    screen.say("tracking; Ctrl-C ends it");
    Ok(())
}
