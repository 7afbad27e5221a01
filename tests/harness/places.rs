//! The few lines of an `lb` configuration that the scenarios write, for workers that are not `lb`.

/// A listener of the configuration; without backends it answers 200.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: String,
    pub address: String,
    pub backends: Vec<String>,
}

/// The few lines of an `lb` configuration that the scenarios write.
pub fn places(text: &str) -> Vec<Place> {
    let value = |line: &str, key: &str| {
        let rest = line.strip_prefix(key)?.trim().strip_prefix('=')?.trim();
        Some(rest.trim_matches('"').to_owned())
    };
    let mut places: Vec<Place> = Vec::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            line.clone_into(&mut section);
        }
        let place = |name: String| Place {
            name,
            address: String::new(),
            backends: Vec::new(),
        };
        if section == "[admin]"
            && let Some(address) = value(line, "listen")
        {
            places.push(Place {
                address,
                ..place("admin".to_owned())
            });
        }
        if section == "[[listener]]" {
            if let Some(name) = value(line, "name") {
                places.push(place(name));
            }
            if let (Some(address), Some(last)) = (value(line, "address"), places.last_mut()) {
                last.address = address;
            }
        }
        let upstream = section
            .strip_prefix("[upstream.")
            .map(|name| name.trim_end_matches(']'));
        if let (Some(upstream), Some(list)) = (upstream, value(line, "backends")) {
            let backends = list.trim_matches(['[', ']']).split(',');
            let backends = backends
                .map(|one| one.trim().trim_matches('"').to_owned())
                .collect();
            if let Some(place) = places.iter_mut().find(|place| place.name == upstream) {
                place.backends = backends;
            }
        }
    }
    places
}
