//! Published results: those that are a matter of seconds.

use riverrun_sim::science::Experiment;

/// These hold whatever is decided; the others are measured in docs/science.md.
const ALWAYS: [&str; 2] = ["V2-1", "V13"];

#[test]
fn what_is_quick_is_measured_and_beats_no_bound() {
    for experiment in Experiment::ALL.iter().filter(|e| e.is_quick) {
        for finding in experiment.run(1) {
            let (id, what) = (experiment.id, finding.claim.what);
            crate::say(&format!(
                "{id}: {what}: {:.3}, expected {}",
                finding.measured, finding.claim
            ));
            assert!(finding.measured.is_finite(), "{id}: {what}");
            // Times over the least possible, and copies over one.
            if finding.claim.least >= 1.0 && finding.claim.most < 2.0 {
                assert!(
                    finding.measured >= 0.999,
                    "{id}: {what}: {}",
                    finding.measured
                );
            }
            assert!(!ALWAYS.contains(&id) || finding.holds(), "{id}: {what}");
        }
    }
}
