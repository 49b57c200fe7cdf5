//! What may carry connections that we dial.

/// TCP, uTP, or both.
///
/// TCP costs less and is quicker; uTP yields to other traffic, and gets through to some peers that TCP does not reach.
/// When both are allowed they race: whichever comes first begins a moment earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transports {
    /// Both; TCP begins.
    #[default]
    TcpFirst,
    /// Both; uTP begins.
    UtpFirst,
    /// TCP, and no uTP.
    TcpOnly,
    /// uTP, and no TCP.
    UtpOnly,
}

impl Transports {
    /// Whether TCP may be used.
    pub const fn has_tcp(self) -> bool {
        !matches!(self, Self::UtpOnly)
    }

    /// Whether uTP may be used.
    pub const fn has_utp(self) -> bool {
        !matches!(self, Self::TcpOnly)
    }

    /// What remains of a wish where only `most` is allowed, and uTP only if there is a socket for it.
    pub(crate) const fn within(self, most: Self, utp: bool) -> Self {
        let has_utp = most.has_utp() && utp;
        match (most.has_tcp(), has_utp) {
            (true, true) => self,
            (true, false) => Self::TcpOnly,
            (false, _) => Self::UtpOnly,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Transports::{self, TcpFirst, TcpOnly, UtpFirst, UtpOnly};

    #[test]
    fn a_wish_goes_no_further_than_what_is_allowed() {
        let check = |wish: Transports, most, utp, expect| {
            assert_eq!(wish.within(most, utp), expect, "{wish:?} within {most:?}");
        };
        for wish in [TcpFirst, UtpFirst, TcpOnly, UtpOnly] {
            check(wish, TcpFirst, true, wish);
            check(wish, UtpFirst, true, wish);
            check(wish, TcpOnly, true, TcpOnly);
            check(wish, UtpOnly, true, UtpOnly);
            check(wish, TcpFirst, false, TcpOnly);
        }
    }
}
