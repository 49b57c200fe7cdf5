//! One pass from bytes to a flat table of tokens. No recursion: nesting costs a stack entry on the
//! heap.

use crate::document::Limits;
use crate::error::{ParseError, SyntaxError};

/// A value in the table. What is in a list or dictionary follows it directly, up to `next`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    /// Where the value starts in the source.
    pub(crate) start: u32,
    /// Where it ends.
    pub(crate) end: u32,
    /// The index of the token after this value and all that is in it.
    pub(crate) next: u32,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    /// A byte string with that many bytes before its content.
    Bytes {
        header: u8,
    },
    List,
    /// A dictionary; `sorted` if each key is greater than the one before.
    Dict {
        sorted: bool,
    },
}

/// A list or dictionary that is not closed yet.
struct Open {
    token: u32,
    /// Dictionaries only: what comes next.
    expects: Expects,
    /// The content of the last key, by where it starts and ends.
    last_key: Option<(u32, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    Item,
    Key,
    ValueOfKey,
}

struct Parser<'src> {
    source: &'src [u8],
    at: usize,
    tokens: Vec<Token>,
    open: Vec<Open>,
    limits: Limits,
}

/// The tokens of the value at the start of `source`; the first is the value itself.
pub(crate) fn tokenize(source: &[u8], limits: Limits) -> Result<Vec<Token>, ParseError> {
    let limit = limits.bytes.min(u32::MAX as usize);
    if source.len() > limit {
        let cause = SyntaxError::TooLong {
            actual: source.len(),
            limit,
        };
        return Err(ParseError {
            offset: limit,
            cause,
        });
    }
    let mut parser = Parser {
        source,
        at: 0,
        tokens: Vec::new(),
        open: Vec::new(),
        limits,
    };
    loop {
        parser.step()?;
        if parser.open.is_empty() {
            return Ok(parser.tokens);
        }
    }
}

impl Parser<'_> {
    /// Takes one value, or the start or end of a list or dictionary.
    fn step(&mut self) -> Result<(), ParseError> {
        let Some(byte) = self.source.get(self.at).copied() else {
            return self.fail(self.at, SyntaxError::UnexpectedEnd);
        };
        let expects = self.open.last().map_or(Expects::Item, |open| open.expects);
        match (byte, expects) {
            (b'e', Expects::Item) if self.open.is_empty() => {
                self.fail(self.at, SyntaxError::ExpectedValue(byte))
            }
            (b'e', Expects::Item | Expects::Key) => {
                self.close();
                Ok(())
            }
            (b'e', Expects::ValueOfKey) => self.fail(self.at, SyntaxError::MissingValue),
            (b'0'..=b'9', Expects::Key) => self.key(),
            (_, Expects::Key) => self.fail(self.at, SyntaxError::ExpectedKey(byte)),
            (_, Expects::Item | Expects::ValueOfKey) => {
                if let Some(open) = self
                    .open
                    .last_mut()
                    .filter(|open| open.expects == Expects::ValueOfKey)
                {
                    open.expects = Expects::Key;
                }
                self.value(byte)
            }
        }
    }

    fn value(&mut self, byte: u8) -> Result<(), ParseError> {
        match byte {
            b'0'..=b'9' => self.bytes().map(drop),
            b'i' => self.int(),
            b'l' => self.begin(Kind::List, Expects::Item),
            b'd' => self.begin(Kind::Dict { sorted: true }, Expects::Key),
            other => self.fail(self.at, SyntaxError::ExpectedValue(other)),
        }
    }

    fn begin(&mut self, kind: Kind, expects: Expects) -> Result<(), ParseError> {
        if self.open.len() >= self.limits.depth as usize {
            return self.fail(self.at, SyntaxError::TooDeep(self.limits.depth));
        }
        let token = self.push(self.at + 1, kind)?;
        self.open.push(Open {
            token,
            expects,
            last_key: None,
        });
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        let (end, next) = (offset(self.at), offset(self.tokens.len()));
        if let Some(open) = self.open.pop() {
            let token = &mut self.tokens[open.token as usize];
            (token.end, token.next) = (end, next);
        }
    }

    /// Takes a byte string as a key, and notes whether it comes after the key before it.
    fn key(&mut self) -> Result<(), ParseError> {
        let key = self.bytes()?;
        let content = |(start, end): (u32, u32)| &self.source[start as usize..end as usize];
        if let Some(open) = self.open.last_mut() {
            if open
                .last_key
                .is_some_and(|last| content(last) >= content(key))
            {
                self.tokens[open.token as usize].kind = Kind::Dict { sorted: false };
            }
            (open.expects, open.last_key) = (Expects::ValueOfKey, Some(key));
        }
        Ok(())
    }

    /// Takes a byte string; gives where its content starts and ends.
    fn bytes(&mut self) -> Result<(u32, u32), ParseError> {
        let digits = self.digits(self.at, b':')?;
        let content = self.at + digits + 1;
        let left = self.source.len() - content;
        let claimed = decimal(&self.source[self.at..self.at + digits]).unwrap_or(u64::MAX);
        let len = usize::try_from(claimed).ok().filter(|len| *len <= left);
        let (Some(len), Ok(header)) = (len, u8::try_from(digits + 1)) else {
            return self.fail(self.at, SyntaxError::StringTooLong { claimed, left });
        };
        self.push(content + len, Kind::Bytes { header })?;
        Ok((offset(content), offset(content + len)))
    }

    fn int(&mut self) -> Result<(), ParseError> {
        let negative = self.source.get(self.at + 1) == Some(&b'-');
        let first = self.at + 1 + usize::from(negative);
        let digits = self.digits(first, b'e')?;
        let magnitude = decimal(&self.source[first..first + digits]);
        match magnitude {
            Some(0) if negative => self.fail(self.at, SyntaxError::NegativeZero),
            Some(n) if !negative || n <= i64::MIN.unsigned_abs() => {
                self.push(first + digits + 1, Kind::Int).map(drop)
            }
            _ => self.fail(self.at, SyntaxError::IntegerOverflow),
        }
    }

    /// How many digits there are from `first` up to `terminator`: at least one, and no needless
    /// zeros.
    fn digits(&self, first: usize, terminator: u8) -> Result<usize, ParseError> {
        let rest = &self.source[first.min(self.source.len())..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match rest.get(digits) {
            None => self.fail(self.source.len(), SyntaxError::UnexpectedEnd),
            Some(byte) if *byte != terminator || digits == 0 => {
                self.fail(first + digits, SyntaxError::ExpectedDigit(*byte))
            }
            Some(_) if digits > 1 && rest[0] == b'0' => self.fail(first, SyntaxError::LeadingZero),
            Some(_) => Ok(digits),
        }
    }

    /// Notes the value from here to `end`, and goes there.
    fn push(&mut self, end: usize, kind: Kind) -> Result<u32, ParseError> {
        if self.tokens.len() >= self.limits.tokens as usize {
            return self.fail(self.at, SyntaxError::TooManyTokens(self.limits.tokens));
        }
        let index = offset(self.tokens.len());
        self.tokens.push(Token {
            start: offset(self.at),
            end: offset(end),
            next: index + 1,
            kind,
        });
        self.at = end;
        Ok(index)
    }

    #[expect(
        clippy::unused_self,
        reason = "reads as what it does: the parser fails"
    )]
    fn fail<T>(&self, offset: usize, cause: SyntaxError) -> Result<T, ParseError> {
        Err(ParseError { offset, cause })
    }
}

/// Invariant: offsets and token indices are bounded by the length of the source, which `tokenize`
/// bounds by `u32::MAX`.
fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("the source was checked to be at most u32::MAX bytes")
}

/// The value of these digits, if it fits.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        value
            .checked_mul(10)?
            .checked_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    fn check(input: &[u8], offset: usize, cause: SyntaxError) {
        let error = Document::parse(
            input,
            Limits {
                depth: 3,
                tokens: 8,
                bytes: 64,
            },
        )
        .unwrap_err();
        assert_eq!(
            error,
            ParseError { offset, cause },
            "{}",
            input.escape_ascii()
        );
    }

    #[test]
    fn what_is_no_bencode_says_where_and_why() {
        use SyntaxError as E;
        check(b"", 0, E::UnexpectedEnd);
        check(b"e", 0, E::ExpectedValue(b'e'));
        check(b"x", 0, E::ExpectedValue(b'x'));
        check(b"-1:a", 0, E::ExpectedValue(b'-'));
        check(b"l", 1, E::UnexpectedEnd);
        check(b"di1ee", 1, E::ExpectedKey(b'i'));
        check(b"d1:ae", 4, E::MissingValue);
        check(b"d1:a", 4, E::UnexpectedEnd);
        check(b"i", 1, E::UnexpectedEnd);
        check(b"i1", 2, E::UnexpectedEnd);
        check(b"ie", 1, E::ExpectedDigit(b'e'));
        check(b"i-e", 2, E::ExpectedDigit(b'e'));
        check(b"i+1e", 1, E::ExpectedDigit(b'+'));
        check(b"i1.5e", 2, E::ExpectedDigit(b'.'));
        check(b"i01e", 1, E::LeadingZero);
        check(b"i-01e", 2, E::LeadingZero);
        check(b"i-0e", 0, E::NegativeZero);
        check(b"01:a", 0, E::LeadingZero);
        check(b"1", 1, E::UnexpectedEnd);
        check(b"1x", 1, E::ExpectedDigit(b'x'));
        check(
            b"2:a",
            0,
            E::StringTooLong {
                claimed: 2,
                left: 1,
            },
        );
        check(
            b"99999999999999999999999:a",
            0,
            E::StringTooLong {
                claimed: u64::MAX,
                left: 1,
            },
        );
        check(b"i18446744073709551616e", 0, E::IntegerOverflow);
        check(b"i-9223372036854775809e", 0, E::IntegerOverflow);
        check(b"1:abc", 3, E::TrailingBytes(2));
    }

    #[test]
    fn limits_are_exact() {
        use SyntaxError as E;
        check(b"llllee", 3, E::TooDeep(3));
        check(b"li1ei1ei1ei1ei1ei1ei1ei1ee", 22, E::TooManyTokens(8));
        check(
            &[b'l'; 65],
            64,
            E::TooLong {
                actual: 65,
                limit: 64,
            },
        );
        let limits = Limits {
            depth: 3,
            tokens: 8,
            bytes: 64,
        };
        assert!(Document::parse(b"llleee", limits).is_ok());
        assert!(Document::parse(b"li1ei1ei1ei1ei1ei1ei1ee", limits).is_ok());
    }
}
