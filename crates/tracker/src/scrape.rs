//! What a scrape tells about swarms (BEP 48).

use riverrun_base::InfoHash;

/// The numbers of one swarm; what the tracker did not say is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// How many peers have everything.
    pub seeders: Option<u32>,
    /// How many peers have not; partial seeds are among them.
    pub leechers: Option<u32>,
    /// How many peers have ever completed the download.
    pub downloaded: Option<u32>,
    /// How many of the leechers are downloading, which partial seeds are not (BEP 21).
    pub downloaders: Option<u32>,
}

/// A tracker's answer to a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeResponse {
    /// What it says about each torrent that it knows.
    pub files: Vec<(InfoHash, ScrapeCounts)>,
}

impl ScrapeResponse {
    /// The numbers of one swarm.
    pub fn counts(&self, info_hash: InfoHash) -> Option<ScrapeCounts> {
        let mut files = self.files.iter();
        files.find_map(|(hash, counts)| (*hash == info_hash).then_some(*counts))
    }
}
