//! The structure of a type, as a number: what it asks of a format when it is read.
//!
//! The type is read from a format that answers each request with the least there is (zeros, empty
//! strings, one element) and hashes the request. Each pass takes another variant of every
//! enumeration, until each was taken. A type that refuses such a value is known up to there.

use std::fmt;

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
        VariantAccess, Visitor,
    },
};

/// How deep types are followed. Those that contain themselves have no end.
const DEPTH: u32 = 32;
/// How many requests of one pass are followed.
const REQUESTS: u32 = 4096;
/// How many variants are followed.
const VARIANTS: usize = 256;

/// The fingerprint of a type: the same in every process that was built from the same definition.
pub(crate) fn fingerprint<T: DeserializeOwned>() -> u64 {
    let mut trace = Trace { hash: FNV_OFFSET, requests: 0, pass: 0, variants: 1 };
    while trace.pass < trace.variants.min(VARIANTS) {
        trace.requests = 0;
        // Where it stops is part of its structure.
        let read = T::deserialize(Tracer { trace: &mut trace, depth: 0 });
        trace.add(if read.is_ok() { b"end" } else { b"stop" });
        trace.pass += 1;
    }
    trace.hash
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

struct Trace {
    hash: u64,
    requests: u32,
    pass: usize,
    /// The most variants of an enumeration so far.
    variants: usize,
}

impl Trace {
    fn add(&mut self, bytes: &[u8]) {
        // With its length, so that two names are not one.
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }

    fn add_all(&mut self, names: &[&str]) {
        self.add(&(names.len() as u64).to_le_bytes());
        for name in names {
            self.add(name.as_bytes());
        }
    }
}

/// Reading went as far as it goes.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the structure is followed no further")
    }
}

impl std::error::Error for Stop {}

impl serde::de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

struct Tracer<'a> {
    trace: &'a mut Trace,
    depth: u32,
}

impl Tracer<'_> {
    fn request(&mut self, what: &str) -> Result<(), Stop> {
        self.trace.add(what.as_bytes());
        self.trace.requests += 1;
        if self.trace.requests > REQUESTS { Err(Stop) } else { Ok(()) }
    }

    fn inner(&mut self) -> Tracer<'_> {
        Tracer { trace: self.trace, depth: self.depth + 1 }
    }
}

macro_rules! answer {
    ($($request:ident $visit:ident $value:expr;)+) => {$(
        fn $request<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
            self.request(stringify!($request))?;
            visitor.$visit($value)
        }
    )+};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Stop;

    answer! {
        deserialize_bool visit_bool false;
        deserialize_i8 visit_i8 0;
        deserialize_i16 visit_i16 0;
        deserialize_i32 visit_i32 0;
        deserialize_i64 visit_i64 0;
        deserialize_i128 visit_i128 0;
        deserialize_u8 visit_u8 0;
        deserialize_u16 visit_u16 0;
        deserialize_u32 visit_u32 0;
        deserialize_u64 visit_u64 0;
        deserialize_u128 visit_u128 0;
        deserialize_f32 visit_f32 0.0;
        deserialize_f64 visit_f64 0.0;
        deserialize_char visit_char '\0';
        deserialize_str visit_str "";
        deserialize_string visit_str "";
        deserialize_bytes visit_bytes &[];
        deserialize_byte_buf visit_bytes &[];
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.request("unit")?;
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.request("option")?;
        if self.depth < DEPTH { visitor.visit_some(self.inner()) } else { visitor.visit_none() }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.request("unit struct")?;
        self.trace.add(name.as_bytes());
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.request("newtype struct")?;
        self.trace.add(name.as_bytes());
        if self.depth < DEPTH { visitor.visit_newtype_struct(self.inner()) } else { Err(Stop) }
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.request("seq")?;
        visitor.visit_seq(Elements { left: 1, tracer: self })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        mut self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.request("tuple")?;
        self.trace.add(&(len as u64).to_le_bytes());
        visitor.visit_seq(Elements { left: len, tracer: self })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.request("tuple struct")?;
        self.trace.add(name.as_bytes());
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.request("map")?;
        visitor.visit_map(Elements { left: 1, tracer: self })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.request("struct")?;
        self.trace.add(name.as_bytes());
        self.trace.add_all(fields);
        visitor.visit_seq(Elements { left: fields.len(), tracer: self })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.request("enum")?;
        self.trace.add(name.as_bytes());
        self.trace.add_all(variants);
        self.trace.variants = self.trace.variants.max(variants.len());
        let variant = self.trace.pass.checked_rem(variants.len()).ok_or(Stop)?;
        visitor.visit_enum(Chosen { variant: variant as u32, tracer: self })
    }

    // Formats of this kind know neither.
    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// So many elements of a sequence, or entries of a map.
struct Elements<'a> {
    left: usize,
    tracer: Tracer<'a>,
}

impl Elements<'_> {
    fn next(&mut self) -> Option<Tracer<'_>> {
        if self.tracer.depth >= DEPTH {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        Some(self.tracer.inner())
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        self.next().map(|tracer| seed.deserialize(tracer)).transpose()
    }
}

impl<'de> MapAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        self.next().map(|tracer| seed.deserialize(tracer)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        seed.deserialize(self.tracer.inner())
    }
}

/// One variant of an enumeration.
struct Chosen<'a> {
    variant: u32,
    tracer: Tracer<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Chosen<'a> {
    type Error = Stop;
    type Variant = Tracer<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Tracer<'a>), Stop> {
        let deserializer: serde::de::value::U32Deserializer<Stop> =
            self.variant.into_deserializer();
        Ok((seed.deserialize(deserializer)?, self.tracer))
    }
}

impl<'de> VariantAccess<'de> for Tracer<'_> {
    type Error = Stop;

    fn unit_variant(mut self) -> Result<(), Stop> {
        self.request("unit variant")
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, Stop> {
        self.request("newtype variant")?;
        if self.depth < DEPTH { seed.deserialize(self.inner()) } else { Err(Stop) }
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.request("tuple variant")?;
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.request("struct variant")?;
        self.trace.add_all(fields);
        visitor.visit_seq(Elements { left: fields.len(), tracer: self })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::fingerprint;

    /// Two definitions of a structure of the same name.
    macro_rules! differ {
        ($first:item $second:item) => {{
            let first = {
                #[derive(Serialize, Deserialize)]
                $first
                fingerprint::<Shape>()
            };
            let second = {
                #[derive(Serialize, Deserialize)]
                $second
                fingerprint::<Shape>()
            };
            assert_ne!(first, second);
        }};
    }

    #[test]
    #[allow(dead_code)]
    fn types_that_differ_anywhere_have_different_fingerprints() {
        differ!(
            struct Shape {
                a: u32,
            }
            struct Shape {
                b: u32,
            }
        );
        differ!(
            struct Shape {
                a: u32,
            }
            struct Shape {
                a: i32,
            }
        );
        differ!(
            struct Shape {
                a: u32,
                b: u32,
            }
            struct Shape {
                a: u32,
            }
        );
        differ!(
            struct Shape {
                a: u32,
                b: u32,
            }
            struct Shape {
                b: u32,
                a: u32,
            }
        );
        differ!(
            struct Shape {
                a: Option<u32>,
            }
            struct Shape {
                a: u32,
            }
        );
        differ!(
            struct Shape {
                a: Option<u32>,
            }
            struct Shape {
                a: Option<u64>,
            }
        );
        differ!(
            struct Shape {
                a: Vec<Vec<u8>>,
            }
            struct Shape {
                a: Vec<Vec<u16>>,
            }
        );
        differ!(
            struct Shape {
                a: [u8; 4],
            }
            struct Shape {
                a: [u8; 5],
            }
        );
        differ!(
            struct Shape {
                a: BTreeMap<u8, u8>,
            }
            struct Shape {
                a: BTreeMap<u8, u16>,
            }
        );
        differ!(
            enum Shape {
                A,
                B,
            }
            enum Shape {
                A,
                B,
                C,
            }
        );
        differ!(
            enum Shape {
                A,
                B(u32),
            }
            enum Shape {
                A,
                B(u16),
            }
        );
        differ!(
            enum Shape {
                A,
                B { a: u8 },
            }
            enum Shape {
                A,
                B { b: u8 },
            }
        );
        differ!(
            enum Shape {
                A,
                B(Option<u8>),
                C,
            }
            enum Shape {
                A,
                B(Option<u8>),
                C(u8),
            }
        );
        differ!(
            struct Shape(u8);
            struct Shape(i8);
        );
    }

    #[derive(Serialize, Deserialize)]
    struct Tree {
        leaves: Vec<Tree>,
        left: Option<Box<Tree>>,
        right: Option<Box<Tree>>,
        next: Box<Choice>,
    }

    #[derive(Serialize, Deserialize)]
    enum Choice {
        End,
        Tree(Tree),
    }

    #[test]
    fn types_that_contain_themselves_have_fingerprints() {
        assert_ne!(fingerprint::<Tree>(), fingerprint::<Choice>());
        assert_eq!(fingerprint::<Tree>(), fingerprint::<Tree>());
    }

    #[derive(Serialize, Deserialize)]
    enum Nothing {}

    #[test]
    fn an_enumeration_without_variants_has_one_too() {
        assert_ne!(fingerprint::<Nothing>(), fingerprint::<()>());
    }
}
