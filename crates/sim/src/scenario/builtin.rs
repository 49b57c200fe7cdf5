//! The scenarios that come with the program.

/// A scenario that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its file.
    pub toml: &'static str,
}

macro_rules! builtins {
    ($($name:literal)*) => {
        impl Builtin {
            /// All of them, from the simplest on.
            pub const ALL: &'static [Self] = &[
                $(Self { name: $name, toml: include_str!(concat!("../../scenarios/", $name, ".toml")) },)*
            ];
        }
    };
}

builtins! {
    "worked-example"
    "one-becomes-many"
    "rarest-first"
    "super-seeding"
    "wrong-piece"
    "flash-crowd"
    "seed-leaves"
    "late-peer"
    "free-riders"
    "private"
    "kraken"
}

/// The built-in scenario of that name.
pub fn builtin(name: &str) -> Option<Builtin> {
    Builtin::ALL
        .iter()
        .copied()
        .find(|builtin| builtin.name == name)
}
