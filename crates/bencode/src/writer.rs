//! Bencode in its one canonical form.

/// Writes values one after the other; [`Writer::dict`] and [`Writer::list`] open, [`Writer::end`]
/// closes.
///
/// Every method asserts that it is called where the grammar has a place for it, and [`Writer::key`]
/// that keys ascend: the order of keys is the caller's duty, and a wrong one would change
/// info-hashes.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    open: Vec<Open>,
}

#[derive(Clone, Debug)]
enum Open {
    List,
    Dict {
        /// Where in the output the last key stands.
        last_key: Option<(usize, usize)>,
        /// A key was written and its value was not.
        awaits_value: bool,
    },
}

impl Writer {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing written yet, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
            open: Vec::with_capacity(4),
        }
    }

    /// Opens a dictionary.
    pub fn dict(&mut self) -> &mut Self {
        self.before_value();
        self.out.push(b'd');
        self.open.push(Open::Dict {
            last_key: None,
            awaits_value: false,
        });
        self
    }

    /// Opens a list.
    pub fn list(&mut self) -> &mut Self {
        self.before_value();
        self.out.push(b'l');
        self.open.push(Open::List);
        self
    }

    /// Closes what was opened last.
    ///
    /// # Panics
    ///
    /// If nothing is open, or a key has no value yet.
    pub fn end(&mut self) -> &mut Self {
        let open = self.open.pop();
        let closable = matches!(
            open,
            Some(
                Open::List
                    | Open::Dict {
                        awaits_value: false,
                        ..
                    }
            )
        );
        assert!(closable, "an end where nothing is open, or a value is due");
        self.out.push(b'e');
        self
    }

    /// Writes a key; its value comes next.
    ///
    /// # Panics
    ///
    /// If the key is not greater than the last one, or has no place here.
    pub fn key(&mut self, key: &[u8]) -> &mut Self {
        let content = self.push_bytes(key);
        let Some(Open::Dict {
            last_key,
            awaits_value: awaits_value @ false,
        }) = self.open.last_mut()
        else {
            panic!("a key outside of a dictionary, or where a value is due");
        };
        if let Some((start, end)) = *last_key {
            assert!(
                &self.out[start..end] < key,
                "keys must ascend: {}",
                key.escape_ascii()
            );
        }
        (*last_key, *awaits_value) = (Some(content), true);
        self
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.before_value();
        self.push_bytes(bytes);
        self
    }

    /// Writes an integer.
    pub fn int(&mut self, int: i64) -> &mut Self {
        self.number(int < 0, int.unsigned_abs())
    }

    /// Writes an integer that is not negative.
    pub fn uint(&mut self, int: u64) -> &mut Self {
        self.number(false, int)
    }

    fn number(&mut self, is_negative: bool, size: u64) -> &mut Self {
        self.before_value();
        self.out.push(b'i');
        if is_negative {
            self.out.push(b'-');
        }
        self.push_decimal(size);
        self.out.push(b'e');
        self
    }

    /// Writes digits in place: a message has a dozen of lengths, and formatting each costs an allocation.
    fn push_decimal(&mut self, number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            // Invariant: a remainder of ten is a digit.
            digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    /// Writes a value that is bencode already.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.before_value();
        self.out.extend_from_slice(value);
        self
    }

    /// All that was written.
    ///
    /// # Panics
    ///
    /// If something is still open.
    pub fn finish(self) -> Vec<u8> {
        assert!(self.open.is_empty(), "a list or dictionary was not closed");
        self.out
    }

    fn before_value(&mut self) {
        match self.open.last_mut() {
            None => assert!(self.out.is_empty(), "two values at the top"),
            Some(Open::List) => {}
            Some(Open::Dict { awaits_value, .. }) => {
                assert!(*awaits_value, "a value without a key");
                *awaits_value = false;
            }
        }
    }

    /// Where the content stands in the output.
    fn push_bytes(&mut self, bytes: &[u8]) -> (usize, usize) {
        self.push_decimal(bytes.len() as u64);
        self.out.push(b':');
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        (start, self.out.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_in_their_one_form() {
        let mut writer = Writer::new();
        writer
            .dict()
            .key(b"")
            .list()
            .int(-3)
            .uint(u64::MAX)
            .bytes(b"")
            .end();
        writer.key(b"a").dict().end().key(b"b").raw(b"i7e").end();
        assert_eq!(
            writer.finish(),
            b"d0:li-3ei18446744073709551615e0:e1:ade1:bi7ee"
        );
    }

    #[test]
    #[should_panic(expected = "keys must ascend: a")]
    fn keys_out_of_order_are_a_bug() {
        Writer::new().dict().key(b"b").int(1).key(b"a");
    }

    #[test]
    #[should_panic(expected = "keys must ascend: a")]
    fn a_key_twice_is_a_bug() {
        Writer::new().dict().key(b"a").int(1).key(b"a");
    }

    #[test]
    #[should_panic(expected = "a value without a key")]
    fn a_value_needs_its_key() {
        Writer::new().dict().int(1);
    }

    #[test]
    #[should_panic(expected = "was not closed")]
    fn what_is_open_must_be_closed() {
        let mut writer = Writer::new();
        writer.list();
        writer.finish();
    }
}
