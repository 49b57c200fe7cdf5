//! Views of the values in a document.

use std::collections::BTreeSet;

use crate::parse::{Kind, Token, decimal};

/// One value of a document. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Value<'doc, 'src> {
    tokens: &'doc [Token],
    source: &'src [u8],
    index: usize,
}

impl<'doc, 'src> Value<'doc, 'src> {
    pub(crate) const fn at(tokens: &'doc [Token], source: &'src [u8], index: usize) -> Self {
        Self {
            tokens,
            source,
            index,
        }
    }

    const fn token(&self) -> Token {
        self.tokens[self.index]
    }

    /// The bytes of the source that are this value, its type and length included.
    pub fn raw(&self) -> &'src [u8] {
        let token = self.token();
        &self.source[token.start as usize..token.end as usize]
    }

    /// Where in the source the value starts.
    pub const fn offset(&self) -> usize {
        self.token().start as usize
    }

    /// The content, if this is a byte string.
    pub fn as_bytes(&self) -> Option<&'src [u8]> {
        match self.token().kind {
            Kind::Bytes { header } => self.raw().get(usize::from(header)..),
            _ => None,
        }
    }

    /// The content, if this is a byte string that is valid UTF-8.
    pub fn as_str(&self) -> Option<&'src str> {
        self.as_bytes()
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The number, if this is an integer that fits.
    pub fn as_int(&self) -> Option<i64> {
        match self.int_digits()? {
            [b'-', digits @ ..] => 0_i64.checked_sub_unsigned(decimal(digits)?),
            digits => decimal(digits).and_then(|n| i64::try_from(n).ok()),
        }
    }

    /// The number, if this is an integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self.int_digits()? {
            [b'-', ..] => None,
            digits => decimal(digits),
        }
    }

    /// What is between `i` and `e`.
    fn int_digits(&self) -> Option<&'src [u8]> {
        match (self.token().kind, self.raw()) {
            (Kind::Int, [b'i', digits @ .., b'e']) => Some(digits),
            _ => None,
        }
    }

    /// The list, if this is one.
    pub fn as_list(&self) -> Option<List<'doc, 'src>> {
        (self.token().kind == Kind::List).then_some(List(*self))
    }

    /// The dictionary, if this is one.
    pub const fn as_dict(&self) -> Option<Dict<'doc, 'src>> {
        match self.token().kind {
            Kind::Dict { .. } => Some(Dict(*self)),
            _ => None,
        }
    }

    /// Whether the keys of this and of every dictionary in it ascend, as BEP 3 demands: no key out
    /// of order, none twice.
    pub fn is_canonical(&self) -> bool {
        let within = &self.tokens[self.index..self.token().next as usize];
        within
            .iter()
            .all(|token| token.kind != Kind::Dict { sorted: false })
    }

    /// A key that some dictionary in this value has twice.
    pub fn duplicate_key(&self) -> Option<&'src [u8]> {
        (self.index..self.token().next as usize)
            .filter(|index| self.tokens[*index].kind == Kind::Dict { sorted: false })
            .find_map(|index| {
                let mut seen = BTreeSet::new();
                let dict = Dict(Self { index, ..*self });
                dict.iter()
                    .map(|(key, _)| key)
                    .find(|key| !seen.insert(*key))
            })
    }

    fn children(self) -> Values<'doc, 'src> {
        let end = self.token().next as usize;
        Values {
            parent: self,
            index: self.index + 1,
            end,
        }
    }
}

/// A list of a document.
#[derive(Clone, Copy, Debug)]
pub struct List<'doc, 'src>(Value<'doc, 'src>);

impl<'doc, 'src> List<'doc, 'src> {
    /// Its values, in order.
    pub fn iter(self) -> Values<'doc, 'src> {
        self.0.children()
    }

    /// The value at `index`; costs a walk over those before it.
    pub fn get(&self, index: usize) -> Option<Value<'doc, 'src>> {
        self.iter().nth(index)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// A dictionary of a document.
#[derive(Clone, Copy, Debug)]
pub struct Dict<'doc, 'src>(Value<'doc, 'src>);

impl<'doc, 'src> Dict<'doc, 'src> {
    /// The value of `key`, the first if the key is there twice. Costs a walk over the keys.
    pub fn get(&self, key: &[u8]) -> Option<Value<'doc, 'src>> {
        self.iter()
            .find_map(|(own, value)| (own == key).then_some(value))
    }

    /// Its keys and values, in the order in which they stand.
    pub fn iter(&self) -> impl Iterator<Item = (&'src [u8], Value<'doc, 'src>)> + use<'doc, 'src> {
        let mut values = self.0.children();
        std::iter::from_fn(move || {
            let key = values.next()?.as_bytes()?;
            Some((key, values.next()?))
        })
    }

    /// Whether each key is greater than the one before it (so that none is there twice).
    pub fn is_sorted(&self) -> bool {
        self.0.token().kind == Kind::Dict { sorted: true }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The dictionary as a value.
    pub const fn as_value(&self) -> Value<'doc, 'src> {
        self.0
    }
}

/// The values in a list, one after the other.
#[derive(Clone, Debug)]
pub struct Values<'doc, 'src> {
    parent: Value<'doc, 'src>,
    index: usize,
    end: usize,
}

impl<'doc, 'src> Iterator for Values<'doc, 'src> {
    type Item = Value<'doc, 'src>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.end {
            return None;
        }
        let value = Value {
            index: self.index,
            ..self.parent
        };
        self.index = value.token().next as usize;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Document, Limits, ParseError};

    fn parse(input: &[u8]) -> Document<'_> {
        Document::parse(input, Limits::TORRENT).unwrap()
    }

    #[test]
    fn integers_reach_to_both_ends() {
        for (text, int, unsigned) in [
            ("i0e", Some(0), Some(0)),
            ("i-1e", Some(-1), None),
            (
                "i9223372036854775807e",
                Some(i64::MAX),
                Some(i64::MAX.unsigned_abs()),
            ),
            ("i-9223372036854775808e", Some(i64::MIN), None),
            ("i18446744073709551615e", None, Some(u64::MAX)),
        ] {
            let document = parse(text.as_bytes());
            assert_eq!(document.root().as_int(), int, "{text}");
            assert_eq!(document.root().as_u64(), unsigned, "{text}");
        }
    }

    #[test]
    fn a_value_is_only_what_it_is() {
        let document = parse(b"d1:ai1e1:b2:xy1:cl0:e1:ddee");
        let dict = document.root().as_dict().unwrap();
        let kinds = dict.iter().map(|(_, value)| {
            let kinds = [value.as_int().is_some(), value.as_bytes().is_some()];
            (kinds, value.as_list().is_some(), value.as_dict().is_some())
        });
        let expected = [
            ([true, false], false, false),
            ([false, true], false, false),
            ([false, false], true, false),
            ([false, false], false, true),
        ];
        assert_eq!(kinds.collect::<Vec<_>>(), expected);
        assert_eq!(
            dict.get(b"c")
                .unwrap()
                .as_list()
                .unwrap()
                .get(0)
                .unwrap()
                .as_bytes(),
            Some(&b""[..])
        );
        assert!(dict.get(b"d").unwrap().as_dict().unwrap().is_empty());
        assert!(dict.get(b"e").is_none());
    }

    #[test]
    fn raw_bytes_are_those_of_the_source() {
        let document = parse(b"d4:infod1:zi1e1:ai2eee");
        let info = document.root().as_dict().unwrap().get(b"info").unwrap();
        assert_eq!(info.raw(), b"d1:zi1e1:ai2ee");
        assert_eq!(info.offset(), 7);
    }

    #[test]
    fn order_and_duplicates_are_seen_at_any_depth() {
        let check = |input: &[u8], canonical, duplicate: Option<&[u8]>| {
            let document = parse(input);
            assert_eq!(
                document.root().is_canonical(),
                canonical,
                "{}",
                input.escape_ascii()
            );
            assert_eq!(
                document.root().duplicate_key(),
                duplicate,
                "{}",
                input.escape_ascii()
            );
        };
        check(b"d1:ai1e1:bi2ee", true, None);
        check(b"d1:bi1e1:ai2ee", false, None);
        check(b"d1:ai1e1:ai2ee", false, Some(b"a"));
        check(b"ld1:ai1e1:bi1e1:ai2eee", false, Some(b"a"));
        check(b"d2:aai1e1:ai2ee", false, None);
        check(b"d1:ade1:bi1ee", true, None);
        let document = parse(b"d1:ad1:bi1e1:bi2ee1:cdee");
        assert!(
            document.root().as_dict().unwrap().is_sorted(),
            "only the inner one is not"
        );
        assert!(
            document
                .root()
                .as_dict()
                .unwrap()
                .get(b"c")
                .unwrap()
                .is_canonical()
        );
    }

    #[test]
    fn a_prefix_says_how_long_it_is() -> Result<(), ParseError> {
        let (document, len) = Document::parse_prefix(b"d1:ai1eeraw bytes", Limits::MESSAGE)?;
        assert_eq!((document.source(), len), (&b"d1:ai1ee"[..], 8));
        Ok(())
    }
}
