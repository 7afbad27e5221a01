//! What holds for targets, whatever the text: what is normal stays as it is, and nothing in it hides a separator or
//! leads upwards.

use edge::target::normalise;

/// Panics where the law is broken.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(once) = normalise(&text) else {
        return;
    };
    let path = once.path.as_ref();
    assert!(path.starts_with('/') && !path.contains("//"));
    assert!(
        path.bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"#?\\".contains(&byte))
    );
    assert!(
        !path
            .split('/')
            .any(|segment| segment == "." || segment == "..")
    );
    for hidden in [
        "%2F", "%5C", "%00", "%0A", "%0D", "%7F", "%2E", "%7E", "%41",
    ] {
        assert!(
            !path.to_ascii_uppercase().contains(hidden),
            "{hidden} in {path}"
        );
    }
    let again = normalise(path).expect("what is normal is served");
    assert_eq!(again.path, once.path);
    let query = text.split_once('?').map(|(_, query)| query);
    assert_eq!(once.query, query);
}
