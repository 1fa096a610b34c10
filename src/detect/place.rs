//! Where a destination is: its autonomous system and its country, from databases that the site may have.
//!
//! The databases are in MaxMind's format (GeoLite2, GeoIP2 and what others publish in it), read whole at the start, as the
//! sensor can open no file later. Nothing is decided by them: they tell a reader of an alert whom an address belongs to.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maxminddb::{MaxMindDbError, Reader, geoip2};

use crate::config::Network;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be used as `network.{key}`: {source}", .path.display())]
pub struct PlaceError {
    path: PathBuf,
    key: &'static str,
    source: MaxMindDbError,
}

/// Whom an address belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The number of its autonomous system.
    pub system: Option<u32>,
    /// The organisation behind that.
    pub organization: Option<String>,
    /// The country, by ISO 3166-1.
    pub country: Option<String>,
}

/// The databases that there are.
#[derive(Clone, Default)]
pub struct Places {
    systems: Option<Arc<Reader<Vec<u8>>>>,
    countries: Option<Arc<Reader<Vec<u8>>>>,
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { systems, countries } = self;
        write!(f, "Places {{ systems: {}, countries: {} }}", systems.is_some(), countries.is_some())
    }
}

impl Places {
    /// Reads those that the configuration names.
    ///
    /// # Errors
    /// If a file cannot be read, or is no such database.
    pub fn open(network: &Network) -> Result<Self, PlaceError> {
        let open = |path: &str, key| {
            let read = |path: &Path| Reader::open_readfile(path).map(Arc::new);
            let path = Some(path).filter(|path| !path.is_empty()).map(PathBuf::from);
            path.map(|path| read(&path).map_err(|source| PlaceError { path, key, source })).transpose()
        };
        Ok(Self {
            systems: open(&network.asn_database, "asn_database")?,
            countries: open(&network.country_database, "country_database")?,
        })
    }

    /// What they say of an address; none if nothing.
    pub fn of(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        // The library would look the first bits of a longer address up among shorter ones.
        let fits = |reader: &&Arc<Reader<Vec<u8>>>| address.is_ipv4() || reader.metadata.ip_version == 6;
        let (systems, countries) = (self.systems.as_ref().filter(fits), self.countries.as_ref().filter(fits));
        let mut place = Place::default();
        // A part of a database that cannot be read says nothing, as a part that is not there.
        if let Some(Ok(Some(system))) = systems.map(|reader| reader.lookup::<geoip2::Asn<'_>>(address)) {
            place.system = system.autonomous_system_number;
            place.organization = system.autonomous_system_organization.map(str::to_owned);
        }
        if let Some(Ok(Some(found))) = countries.map(|reader| reader.lookup::<geoip2::Country<'_>>(address)) {
            let country = found.country.or(found.registered_country);
            place.country = country.and_then(|country| country.iso_code).map(str::to_owned);
        }
        (place != Place::default()).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of the format's version 2 (maxmind.github.io/MaxMind-DB) in which every IPv4 address below 128.0.0.0 has
    /// `data`, a map that is encoded already.
    fn database(data: &[u8]) -> Vec<u8> {
        let text = |text: &str| [&[0x40 | text.len() as u8][..], text.as_bytes()].concat();
        // One node of two 24-bit records: the left one leads to the data, the right one to none.
        let nodes = 1u32;
        let left = nodes + 16;
        let mut file = [&left.to_be_bytes()[1..], &nodes.to_be_bytes()[1..], &[0; 16]].concat();
        file.extend_from_slice(data);
        file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
        let number = |value: u8| vec![0xa1, value];
        let long = |value: u8| vec![0x01, 0x02, value];
        let wide = |value: u8| vec![0xc1, value];
        let fields: [(&str, Vec<u8>); 9] = [
            ("binary_format_major_version", number(2)),
            ("binary_format_minor_version", number(0)),
            ("build_epoch", long(1)),
            ("database_type", text("Test")),
            ("description", vec![0xe0]),
            ("ip_version", number(4)),
            ("languages", vec![0x00, 0x04]),
            ("node_count", wide(1)),
            ("record_size", number(24)),
        ];
        file.push(0xe0 | fields.len() as u8);
        for (name, value) in fields {
            file.extend(text(name));
            file.extend(value);
        }
        file
    }

    fn places(asn: Option<&[u8]>, country: Option<&[u8]>) -> Result<Places, PlaceError> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, file: Option<&[u8]>| {
            let Some(file) = file else { return String::new() };
            let path = folder.path().join(name);
            std::fs::write(&path, file).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (asn_database, country_database) = (write("asn.mmdb", asn), write("country.mmdb", country));
        Places::open(&Network { asn_database, country_database, ..Network::default() })
    }

    #[test]
    fn an_address_belongs_to_a_system_and_a_country() {
        let asn = [&b"\xe2\x58autonomous_system_number"[..], b"\xc2\x32\x09"].concat();
        let asn = [&asn[..], b"\x5d\x01autonomous_system_organization", b"\x47Example"].concat();
        let country = b"\xe1\x47country\xe1\x48iso_code\x42ZZ";
        let places = places(Some(&database(&asn)), Some(&database(country))).unwrap();
        let expected = Place { system: Some(12_809), organization: Some("Example".into()), country: Some("ZZ".into()) };
        assert_eq!(places.of("1.2.3.4".parse().unwrap()), Some(expected.clone()));
        assert_eq!(places.of("::ffff:1.2.3.4".parse().unwrap()), Some(expected));
        assert_eq!(places.of("203.0.113.1".parse().unwrap()), None);
        assert_eq!(places.of("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn without_a_database_nothing_is_known_and_a_wrong_file_is_refused_by_name() {
        assert_eq!(places(None, None).unwrap().of("1.2.3.4".parse().unwrap()), None);
        let error = places(Some(b"no database"), None).unwrap_err().to_string();
        assert!(error.contains("asn.mmdb") && error.contains("network.asn_database"), "{error}");
        assert!(!error.contains('\n'));
    }
}
