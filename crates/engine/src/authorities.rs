//! Certificate authorities to trust beside the system's.

use reqwest::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use thiserror::Error;

/// Certificate authorities that are trusted beside those of the system: for trackers with certificates of their
/// own. Nothing turns the verification of certificates off.
#[derive(Clone, Debug, Default)]
pub struct Authorities {
    pub(crate) certificates: Vec<Certificate>,
}

/// Why a text holds no certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidAuthorities {
    /// There is not one certificate in it.
    #[error("no certificate in PEM form")]
    None,
    /// It is damaged.
    #[error("damaged PEM: {0}")]
    Pem(String),
    /// A certificate is none, or not fit to sign others.
    #[error("certificate {number}: {why}")]
    Certificate {
        /// Which, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl Authorities {
    /// Reads the certificates of a PEM file; other things in it are skipped.
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidAuthorities> {
        let mut certificates = Vec::new();
        for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(text)) {
            let damaged = |error: pem::Error| InvalidAuthorities::Pem(error.to_string());
            let certificate = certificate.map_err(damaged)?;
            let wrong = |why: String| InvalidAuthorities::Certificate { number, why };
            // The client would refuse it only when it is built, and not say which.
            let fits = RootCertStore::empty().add(certificate.clone());
            fits.map_err(|error| wrong(error.to_string()))?;
            let certificate = Certificate::from_der(&certificate);
            certificates.push(certificate.map_err(|error| wrong(error.to_string()))?);
        }
        if certificates.is_empty() {
            return Err(InvalidAuthorities::None);
        }
        Ok(Self { certificates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let check = |text: &str, error| {
            assert_eq!(Authorities::from_pem(text.as_bytes()).unwrap_err(), error);
        };
        check("", InvalidAuthorities::None);
        check("hello", InvalidAuthorities::None);
        let not_der = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let why = "invalid peer certificate: BadEncoding".to_owned();
        check(not_der, InvalidAuthorities::Certificate { number: 1, why });
        let cut = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n";
        let error = Authorities::from_pem(cut.as_bytes()).unwrap_err();
        assert!(matches!(error, InvalidAuthorities::Pem(_)), "{error}");
    }
}
