use super::*;
use chrono::{DateTime, Days, Utc};
use crabtree_actors::settings::{Settings, TlsSettings};
use rcgen::KeyPair;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn files(dir: &Path) -> TlsFiles {
    TlsSettings::default().files(dir)
}

/// What is served out of this directory.
fn open(dir: &Path, tls: serde_json::Value) -> Result<Served, String> {
    let sources = crate::config::Sources {
        state_dir: dir.to_owned(),
        file: None,
        env: crate::config::Environment::default(),
        flags: json!({}),
    };
    let mut loaded = crate::config::load(&sources).unwrap();
    let settings: Settings = serde_json::from_value(json!({ "gateway": { "tls": tls } })).unwrap();
    loaded.settings = settings;
    let served = Served::open(&loaded, "attic", &[[192, 168, 1, 5].into()]);
    served.map(|served| served.unwrap()).map_err(|error| error.to_string())
}

fn on() -> serde_json::Value {
    json!({ "enabled": true })
}

fn certificate(from: DateTime<Utc>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names = made::names("attic", &[]);
    (made::certificate(&names, &key, from).unwrap(), key.serialize_pem())
}

/// Two looks: what has changed is left alone once.
fn looked(served: &Served) -> Option<Result<Certificate, String>> {
    assert!(served.look().is_none(), "it may be half of something");
    served.look()
}

/// accepts: J8
#[test]
fn a_certificate_is_made_once_is_private_and_is_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), on()).unwrap().about();
    let TlsFiles { cert, key, .. } = files(dir.path());
    for file in [&cert, &key] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    assert_eq!(fs::metadata(key.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(key.parent().unwrap()).unwrap().count(), 2, "no drafts are left");
    assert_eq!(open(dir.path(), on()).unwrap().about(), first);
    assert_eq!(fingerprint(&cert), Ok(first.fingerprint));
    let years = (first.expires_at - Utc::now().timestamp_millis()) / (365 * 86_400_000);
    assert!((9..=10).contains(&years), "{years}");
}

/// accepts: C5
#[test]
fn what_is_missing_stops_the_start_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let why = |tls| open(dir.path(), tls).err().unwrap();
    let none = why(json!({ "enabled": true, "autoGenerate": false }));
    assert!(none.contains("gateway-cert.pem") && none.contains("gateway.tls.autoGenerate"), "{none}");
    let (cert, key) = certificate(Utc::now());
    let [its, keys] = ["mine.pem", "mine.key"].map(|name| dir.path().join(name));
    let own = || json!({ "enabled": true, "certPath": its, "keyPath": keys });
    fs::write(&its, &cert).unwrap();
    assert!(why(own()).contains("no key"), "half of a pair is left as it is");
    fs::write(&keys, certificate(Utc::now()).1).unwrap();
    assert!(why(own()).contains("cannot be used together"), "of another certificate");
    fs::write(&keys, &key).unwrap();
    assert_eq!(open(dir.path(), own()).unwrap().about().fingerprint, fingerprint(&its).unwrap());
    fs::write(&its, "nonsense").unwrap();
    assert!(why(own()).contains("no certificate in"));
    fs::write(&its, cert.repeat(2_000)).unwrap();
    assert!(why(own()).contains("is larger than"));
}

#[test]
fn a_start_that_was_cut_short_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), on()).unwrap();
    let TlsFiles { cert, key, .. } = files(dir.path());
    let before = fs::read(&key).unwrap();
    fs::remove_file(&cert).unwrap();
    open(dir.path(), on()).unwrap();
    assert_eq!(fs::read(&key).unwrap(), before);
}

/// accepts: J8
#[test]
fn a_new_certificate_is_served_and_a_broken_one_leaves_the_old_and_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let served = open(dir.path(), on()).unwrap();
    let TlsFiles { cert, key, .. } = files(dir.path());
    let first = served.about();
    assert_eq!(looked(&served), None);
    let (text, its_key) = certificate(Utc::now());
    fs::write(&cert, &text).unwrap();
    let why = looked(&served).unwrap().unwrap_err();
    assert!(why.contains("cannot be used together") && why.contains("goes on to be served"), "{why}");
    assert_eq!((served.look(), served.about()), (None, first));
    fs::write(&key, its_key).unwrap();
    let second = looked(&served).unwrap().unwrap();
    assert_eq!((second.fingerprint, served.about()), (fingerprint(&cert).unwrap(), second));
    fs::remove_file(&cert).unwrap();
    assert!(looked(&served).unwrap().unwrap_err().contains("cannot be read"));
    assert_eq!(served.about(), second);
}

/// accepts: J8
#[test]
fn a_certificate_of_its_own_is_made_anew_before_it_ends_and_one_of_somebody_else_never() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), on()).unwrap();
    let TlsFiles { cert, key, .. } = files(dir.path());
    let (old, its_key) = certificate(Utc::now() - Days::new(3_630));
    let put = |cert_text: &str| {
        fs::write(&cert, cert_text).unwrap();
        fs::write(&key, &its_key).unwrap();
    };
    put(&old);
    let before = fingerprint(&cert).unwrap();
    let kept = open(dir.path(), json!({ "enabled": true, "autoGenerate": false })).unwrap();
    assert_eq!(kept.about().fingerprint, before, "nothing is made");
    let served = open(dir.path(), on()).unwrap();
    assert!(served.about().fingerprint != before && fingerprint(&cert) == Ok(served.about().fingerprint));
    assert_eq!(fs::read_to_string(&key).unwrap(), its_key, "the key stays");
    // The same while it runs.
    put(&old);
    let anew = looked(&served).unwrap().unwrap();
    assert!(anew.fingerprint != before && fingerprint(&cert) == Ok(anew.fingerprint));
    let theirs = {
        let key = KeyPair::from_pem(&its_key).unwrap();
        let mut params = rcgen::CertificateParams::new(["h".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "somebody else");
        params.not_after = rcgen::date_time_ymd(2026, 1, 1);
        params.self_signed(&key).unwrap().pem()
    };
    put(&theirs);
    assert_eq!(open(dir.path(), on()).unwrap().about().fingerprint, fingerprint(&cert).unwrap());
    assert_eq!(fs::read_to_string(&cert).unwrap(), theirs);
}

#[test]
fn a_bundle_completes_the_chain_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params, key)
    };
    let ((root, root_key), (middle, middle_key), (leaf, leaf_key)) =
        (made("root"), made("middle"), made("leaf"));
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let by_root = rcgen::Issuer::new(root, root_key);
    let middle_pem = middle.signed_by(&middle_key, &by_root).unwrap().pem();
    let by_middle = rcgen::Issuer::new(middle, middle_key);
    let leaf_pem = leaf.signed_by(&leaf_key, &by_middle).unwrap().pem();
    let TlsFiles { cert, key, .. } = files(dir.path());
    let ca = dir.path().join("ca.pem");
    fs::create_dir_all(cert.parent().unwrap()).unwrap();
    fs::write(&cert, &leaf_pem).unwrap();
    fs::write(&key, leaf_key.serialize_pem()).unwrap();
    fs::write(&ca, format!("{root_pem}{}{middle_pem}", certificate(Utc::now()).0)).unwrap();
    let files = TlsFiles { cert, key, ca: Some(ca) };
    assert_eq!(read::chain(&files).unwrap().len(), 2, "what signs itself the clients have themselves");
    open(dir.path(), json!({ "enabled": true, "caPath": files.ca })).unwrap();
}

#[test]
fn a_certificate_has_the_names_that_the_machine_goes_by() {
    let names = made::names("attic", &[[192, 168, 1, 5].into(), [0, 0, 0, 0].into(), [127, 0, 0, 1].into()]);
    assert_eq!(names, ["localhost", "127.0.0.1", "::1", "attic", "attic.local", "192.168.1.5"]);
    assert_eq!(made::names("not a name", &[]), ["localhost", "127.0.0.1", "::1"]);
}
