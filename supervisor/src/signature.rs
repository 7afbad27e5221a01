//! Who may say what runs here: minisign signatures of binaries.
//!
//! In    a public key of the settings; a binary's copy and the signature that lies beside the original.
//! Out   the trusted comment, or the reason of the refusal.
//! Holds the signature is checked on the bytes of the copy, those that are hashed and would be executed,
//!       before any of them is executed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use minisign_verify::{Error, PublicKey, Signature};
use serde::{Deserialize, Deserializer};

/// Longest signature or key file, in bytes; a real one has some hundred.
const TEXT_BYTES_MAX: u64 = 16 * 1024;

/// `[signature]` of supervisor.toml.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignatureSetting {
    /// The key itself ("RW…") or the path of a `minisign.pub`.
    #[serde(deserialize_with = "public_key")]
    pub(crate) public_key: PublicKey,
}

/// Why a binary is not trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error(
        "it is not signed: {0} does not exist, and [signature] demands one; `minisign -Sm BINARY`"
    )]
    Missing(PathBuf),
    #[error("its signature cannot be read: {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is no minisign signature: {reason}")]
    NotASignature { path: PathBuf, reason: String },
    #[error("it is signed with another key than [signature] public_key; {0}")]
    WrongKey(String),
    #[error("its signature does not match its bytes ({reason}); {comment}")]
    Mismatch { reason: String, comment: String },
}

/// Checks `copy` against the signature beside `original`; the trusted comment.
pub(crate) fn check(
    key: &PublicKey,
    original: &Path,
    copy: &Path,
) -> Result<String, SignatureError> {
    let path = beside(original);
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(SignatureError::Missing(path));
        }
        Err(source) => return Err(SignatureError::Unreadable { path, source }),
    };
    let not_a_signature = |error: Error| SignatureError::NotASignature {
        path: path.clone(),
        reason: error.to_string(),
    };
    let signature = Signature::decode(&text).map_err(not_a_signature)?;
    // Not yet known to be the signer's: shown in quotes, without its control characters.
    let comment = format!("its trusted comment says {:?}", signature.trusted_comment());
    let refused = |error: Error| match error {
        Error::UnexpectedKeyId => SignatureError::WrongKey(comment.clone()),
        Error::UnsupportedLegacyMode | Error::UnsupportedAlgorithm => {
            SignatureError::NotASignature {
                path: path.clone(),
                reason: "it is of the legacy kind; sign with minisign 0.10 or later".to_owned(),
            }
        }
        other => SignatureError::Mismatch {
            reason: other.to_string(),
            comment: comment.clone(),
        },
    };
    let mut verifier = key.verify_stream(&signature).map_err(refused)?;
    let unreadable = |source| SignatureError::Unreadable {
        path: copy.to_owned(),
        source,
    };
    let mut file = File::open(copy).map_err(unreadable)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(unreadable)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        verifier.update(bytes);
    }
    verifier.finalize().map_err(refused)?;
    Ok(signature.trusted_comment().to_owned())
}

/// `BINARY.minisig`, where minisign(1) puts it.
fn beside(binary: &Path) -> PathBuf {
    let mut name = binary.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(TEXT_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn public_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_key(&text).map_err(serde::de::Error::custom)
}

fn parse_key(text: &str) -> Result<PublicKey, String> {
    let wrong = |error: &dyn std::fmt::Display| {
        format!("public_key {text:?} is no minisign key (\"RW…\") and no file with one: {error}")
    };
    if !text.starts_with('/') {
        return PublicKey::from_base64(text).map_err(|error| wrong(&error));
    }
    let file = fs::metadata(text).and_then(|_| read_text(Path::new(text)));
    let file = file.map_err(|error| wrong(&error))?;
    PublicKey::decode(file.trim_end()).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use minisign::KeyPair;

    use super::{beside, check, parse_key};

    fn keys() -> KeyPair {
        KeyPair::generate_unencrypted_keypair().expect("a key pair")
    }

    fn sign(keys: &KeyPair, bytes: &[u8]) -> String {
        let comment = Some("lb 1.3.0");
        minisign::sign(Some(&keys.pk), &keys.sk, bytes, comment, None)
            .expect("signs")
            .to_string()
    }

    fn binary(dir: &Path, bytes: &[u8], signature: Option<&str>) -> PathBuf {
        let path = dir.join("lb");
        std::fs::write(&path, bytes).expect("written");
        let _ = std::fs::remove_file(beside(&path));
        if let Some(signature) = signature {
            std::fs::write(beside(&path), signature).expect("written");
        }
        path
    }

    #[test]
    fn only_the_bytes_that_were_signed_with_the_key_are_trusted() {
        let dir = tempfile::tempdir().expect("scratch");
        let (ours, others) = (keys(), keys());
        let key = parse_key(&ours.pk.to_base64()).expect("a key");
        let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
        let good = sign(&ours, &bytes);
        let mut changed = bytes.clone();
        changed[699_999] ^= 1;
        let forged_comment = good.replace("lb 1.3.0", "lb 9.9.9");
        let half = &good[..good.len() / 2];
        let wrong_key = sign(&others, &bytes);
        let table = [
            (&bytes, Some(good.as_str()), Ok("lb 1.3.0")),
            (&bytes, None, Err("lb.minisig does not exist")),
            (&changed, Some(&good), Err("does not match its bytes")),
            (&bytes, Some(&wrong_key), Err("signed with another key")),
            (&bytes, Some(&wrong_key), Err("says \"lb 1.3.0\"")),
            (&bytes, Some(&forged_comment), Err("says \"lb 9.9.9\"")),
            (&bytes, Some(half), Err("is no minisign signature")),
            (&bytes, Some(""), Err("is no minisign signature")),
            (&bytes, Some("\u{0}"), Err("is no minisign signature")),
        ];
        for (bytes, signature, expected) in table {
            let path = binary(dir.path(), bytes, signature);
            let outcome = check(&key, &path, &path).map_err(|error| error.to_string());
            match (outcome, expected) {
                (Ok(comment), Ok(expected)) => assert_eq!(comment, expected),
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
                (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn what_counts_are_the_bytes_of_the_copy() {
        let dir = tempfile::tempdir().expect("scratch");
        let ours = keys();
        let key = parse_key(&ours.pk.to_base64()).expect("a key");
        let original = binary(dir.path(), b"good", Some(&sign(&ours, b"good")));
        let copy = dir.path().join("copy");
        std::fs::write(&copy, b"bad!").expect("written");
        assert!(check(&key, &original, &copy).is_err());
        // Replaced after it was copied: what will run is still what was signed.
        std::fs::write(&copy, b"good").expect("written");
        std::fs::write(&original, b"bad!").expect("written");
        assert!(check(&key, &original, &copy).is_ok());
    }

    #[test]
    fn a_key_is_given_as_text_or_as_a_file() {
        let dir = tempfile::tempdir().expect("scratch");
        let pk = keys().pk;
        let path = dir.path().join("minisign.pub");
        std::fs::write(&path, pk.to_box().expect("a box").to_string()).expect("written");
        assert!(parse_key(&pk.to_base64()).is_ok());
        assert!(parse_key(&path.display().to_string()).is_ok());
        for wrong in [
            "",
            "RW",
            "/nowhere/minisign.pub",
            "/proc/self/exe",
            "minisign.pub",
        ] {
            let error = parse_key(wrong).expect_err(wrong);
            assert!(error.contains("is no minisign key"), "{error}");
        }
    }
}
