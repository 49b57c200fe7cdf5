//! What holds for any input.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use riverrun_bencode::{Document, Limits, ParseError, SyntaxError, Value, Writer};

#[derive(Clone, Debug)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Dict(std::collections::BTreeMap<Vec<u8>, Self>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Tree::Int),
        vec(any::<u8>(), 0..20).prop_map(Tree::Bytes)
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Tree::List),
            btree_map(vec(any::<u8>(), 0..4), inner, 0..6).prop_map(Tree::Dict),
        ]
    })
}

fn write(tree: &Tree, writer: &mut Writer) {
    match tree {
        Tree::Int(int) => drop(writer.int(*int)),
        Tree::Bytes(bytes) => drop(writer.bytes(bytes)),
        Tree::List(items) => {
            writer.list();
            for item in items {
                write(item, writer);
            }
            writer.end();
        }
        Tree::Dict(items) => {
            writer.dict();
            for (key, item) in items {
                writer.key(key);
                write(item, writer);
            }
            writer.end();
        }
    }
}

fn rewrite(value: Value<'_, '_>, writer: &mut Writer) {
    if let Some(int) = value.as_int() {
        writer.int(int);
    } else if let Some(bytes) = value.as_bytes() {
        writer.bytes(bytes);
    } else if let Some(list) = value.as_list() {
        writer.list();
        for item in list.iter() {
            rewrite(item, writer);
        }
        writer.end();
    } else if let Some(dict) = value.as_dict() {
        writer.dict();
        for (key, item) in dict.iter() {
            writer.key(key);
            rewrite(item, writer);
        }
        writer.end();
    }
}

proptest! {
    #[test]
    fn what_was_written_reads_back(tree in trees()) {
        let mut writer = Writer::new();
        write(&tree, &mut writer);
        let bytes = writer.finish();
        let document = Document::parse(&bytes, Limits::TORRENT).unwrap();
        prop_assert!(document.root().is_canonical());
        prop_assert_eq!(document.root().raw(), &bytes[..]);
        let mut again = Writer::new();
        rewrite(document.root(), &mut again);
        prop_assert_eq!(again.finish(), bytes);
    }

    #[test]
    fn a_cut_input_is_an_error_and_never_a_panic(tree in trees(), cut in any::<prop::sample::Index>()) {
        let mut writer = Writer::new();
        write(&tree, &mut writer);
        let bytes = writer.finish();
        prop_assert!(Document::parse(&bytes[..cut.index(bytes.len())], Limits::TORRENT).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(prop_oneof![any::<u8>(), prop::sample::select(&b"dlie0123456789:-"[..])], 0..200)) {
        if let Ok((document, len)) = Document::parse_prefix(&bytes, Limits::MESSAGE) {
            prop_assert_eq!(document.source(), &bytes[..len]);
            let root = document.root();
            prop_assert!(!root.is_canonical() || root.duplicate_key().is_none());
        }
    }
}

#[test]
fn hostile_nesting_costs_no_stack_and_linear_time() {
    let limits = Limits {
        depth: u32::MAX,
        ..Limits::TORRENT
    };
    let mut deep = vec![b'l'; 1_000_000];
    let error = Document::parse(&deep, limits).unwrap_err();
    assert_eq!(
        error,
        ParseError {
            offset: 1_000_000,
            cause: SyntaxError::UnexpectedEnd
        }
    );
    deep.extend(vec![b'e'; 1_000_000]);
    let document = Document::parse(&deep, limits).unwrap();
    assert!(document.root().is_canonical() && document.root().duplicate_key().is_none());
    let error = Document::parse(&deep, Limits::TORRENT).unwrap_err();
    assert_eq!(
        error,
        ParseError {
            offset: 100,
            cause: SyntaxError::TooDeep(100)
        }
    );
}
