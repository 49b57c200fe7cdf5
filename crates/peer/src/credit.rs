//! How much payload may move.

/// What is left of the credit in one direction, in bytes; without limit at first.
///
/// A block goes whole or not at all, so a balance can be overdrawn; the next grant pays that back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Balance(Option<i64>);

impl Balance {
    pub(crate) fn grant(&mut self, bytes: Option<u64>) {
        let granted = bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        self.0 = granted.map(|granted| self.0.unwrap_or(0).saturating_add(granted));
    }

    pub(crate) fn is_left(self) -> bool {
        self.0.is_none_or(|left| left > 0)
    }

    pub(crate) fn spend(&mut self, bytes: u64) {
        if let Some(left) = &mut self.0 {
            *left = left.saturating_sub_unsigned(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_overdrawn_is_paid_back() {
        let mut balance = Balance::default();
        balance.spend(1 << 40);
        assert!(balance.is_left(), "without limit");
        balance.grant(Some(10));
        balance.spend(25);
        assert!(!balance.is_left());
        balance.grant(Some(15));
        assert!(!balance.is_left());
        balance.grant(Some(1));
        assert!(balance.is_left());
        balance.grant(None);
        balance.spend(u64::MAX);
        assert!(balance.is_left());
    }
}
