//! Fields that are objects and nothing else. (Of a list serde makes an object as well, member by member.)

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// Reads a field that is an object.
pub(crate) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<T, D::Error> {
    T::deserialize(Object(field))
}

/// Reads a field that is an object, if it is there.
pub(crate) fn some_object<'de, T, D>(field: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Whole<T>(T);
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Whole<T> {
        fn deserialize<D: Deserializer<'de>>(field: D) -> Result<Self, D::Error> {
            object(field).map(Self)
        }
    }
    Ok(Option::<Whole<T>>::deserialize(field)?.map(|Whole(whole)| whole))
}

struct Object<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Object<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Outer {
        #[serde(deserialize_with = "object")]
        inner: Inner,
        #[serde(default, deserialize_with = "some_object")]
        more: Option<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        a: u8,
        b: Vec<u8>,
    }

    #[test]
    fn a_list_is_no_object() {
        let read = serde_json::from_str::<Outer>;
        let inner = || Inner { a: 1, b: vec![2] };
        assert_eq!(read(r#"{"inner":{"a":1,"b":[2]}}"#).unwrap(), Outer { inner: inner(), more: None });
        let both = read(r#"{"inner":{"a":1,"b":[2]},"more":{"a":1,"b":[2]}}"#).unwrap();
        assert_eq!(both, Outer { inner: inner(), more: Some(inner()) });
        assert_eq!(read(r#"{"inner":{"a":1,"b":[2]},"more":null}"#).unwrap().more, None);
        for wrong in [r#"{"inner":[1,[2]]}"#, r#"{"inner":{"a":1,"b":[2]},"more":[1,[2]]}"#, r#"{"inner":1}"#]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
