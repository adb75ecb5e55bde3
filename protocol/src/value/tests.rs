use super::*;

#[test]
fn a_text_counts_characters() {
    assert!(serde_json::from_str::<Text>(r#""""#).is_err());
    assert_eq!(serde_json::from_str::<Text<3>>(r#""äöü""#).unwrap(), "äöü");
    assert!(serde_json::from_str::<Text<3>>(r#""äöüx""#).is_err());
}

#[test]
fn an_integer_may_be_written_as_a_float() {
    assert_eq!(serde_json::from_str::<Int>("5.0").unwrap().get(), 5);
    assert_eq!(serde_json::from_str::<Int>("1e3").unwrap().get(), 1000);
    assert!(serde_json::from_str::<Int>("5.5").is_err());
    assert!(serde_json::from_str::<Int>("-1").is_err());
    assert!(serde_json::from_str::<Int<1>>("0").is_err());
    assert!(serde_json::from_str::<Int<0, 9>>("10").is_err());
}

#[test]
fn null_and_absence_differ() {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(default)]
        field: Maybe<Text>,
    }
    let read = |text| serde_json::from_str::<Probe>(text).unwrap().field;
    assert_eq!(read("{}"), Maybe::Absent);
    assert_eq!(read(r#"{"field":null}"#), Maybe::Null);
    assert_eq!(read(r#"{"field":"x"}"#).as_option().flatten().map(Text::as_str), Some("x"));
}
