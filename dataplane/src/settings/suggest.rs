//! "Did you mean …?": the known word nearest to what was written.
//!
//! Room  pure.

/// The known word that was probably meant, if one is near enough.
///
/// Near: at most one edit in three letters (never fewer than one, at most three edits) after case,
/// `-`, `_` and spaces are set aside; or the written word is the beginning of exactly one known word
/// (`leastconn`).
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let wanted = plain(written);
    let mut begun = Vec::new();
    let mut best: Option<(usize, &'k str)> = None;
    let mut is_tie = false;
    for word in known {
        let candidate = plain(word);
        if wanted.len() >= BEGINNING_BYTES_MIN && candidate.starts_with(&wanted) {
            begun.push(word);
        }
        let distance = strsim::damerau_levenshtein(&wanted, &candidate);
        if distance > edits_allowed(&wanted) {
            continue;
        }
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, word));
            is_tie = false;
        } else {
            is_tie |= best.is_some_and(|(least, _)| distance == least);
        }
    }
    match (best, begun.as_slice()) {
        // `v3` is as near to `v1` as to `v2`: short words prove nothing.
        (Some(_), _) if is_tie && wanted.len() < BEGINNING_BYTES_MIN => None,
        (Some((_, word)), _) => Some(word),
        (None, &[word]) => Some(word),
        (None, _) => None,
    }
}

/// [`nearest`] as the end of a sentence; otherwise all words that would do.
pub(super) fn did_you_mean<'k>(
    written: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
) -> Option<String> {
    if let Some(word) = nearest(written, known.clone()) {
        return Some(format!("did you mean \"{word}\"?"));
    }
    let all: Vec<&str> = known.into_iter().take(WORDS_MAX).collect();
    (!all.is_empty()).then(|| format!("known: {}", all.join(", ")))
}

/// Shortest beginning of a word that may stand for it.
const BEGINNING_BYTES_MIN: usize = 4;
/// Most words that a suggestion lists; more would hide the mistake.
const WORDS_MAX: usize = 24;

fn edits_allowed(word: &str) -> usize {
    (word.chars().count() / 3).clamp(1, 3)
}

fn plain(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, nearest};

    const ALGORITHMS: [&str; 3] = ["round-robin", "least-connections", "ip-hash"];

    #[test]
    fn a_slip_of_the_hand_is_recognised() {
        for (written, meant) in [
            ("round-robbin", "round-robin"),
            ("ROUND_ROBIN", "round-robin"),
            ("roundrobin", "round-robin"),
            ("leastconn", "least-connections"),
            ("least-conections", "least-connections"),
            ("iphash", "ip-hash"),
            ("ip-hahs", "ip-hash"),
        ] {
            assert_eq!(nearest(written, ALGORITHMS), Some(meant), "{written}");
        }
    }

    #[test]
    fn something_else_is_not_bent_into_a_suggestion() {
        for written in ["", "x", "source", "weighted", "hash"] {
            assert_eq!(nearest(written, ALGORITHMS), None, "{written}");
        }
        assert_eq!(
            did_you_mean("source", ALGORITHMS).as_deref(),
            Some("known: round-robin, least-connections, ip-hash")
        );
        assert_eq!(did_you_mean("source", []), None);
    }
}
