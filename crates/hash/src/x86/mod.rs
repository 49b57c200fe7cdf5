//! The kernels of x86-64. The only modules with `unsafe`: to load vectors, and to enter functions that are
//! compiled for instructions which the processor was just asked for.

#[macro_use]
mod rounds;
#[expect(
    unsafe_code,
    reason = "enters functions compiled for AVX2, and loads vectors"
)]
pub(crate) mod avx2;
#[expect(
    unsafe_code,
    reason = "enters functions compiled for AVX-512, and loads vectors"
)]
pub(crate) mod avx512;
#[expect(
    unsafe_code,
    reason = "enters functions compiled for the SHA extensions, and loads vectors"
)]
pub(crate) mod sha_pair;
