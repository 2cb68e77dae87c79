//! Reading what a hostile peer encoded, within bounds that follow from the length of the message.
//!
//! `postcard` alone follows values into each other until the stack ends, and counts a list of things
//! without bytes for as long as it claims to be. So its `Deserializer`, and all that it and a type
//! hand to each other, is wrapped in [`Budgeted`], which counts on the way.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor},
};

use super::encoding::ValueError;

/// How many values may lie around each other. The stack of a thread, 2 MiB, has 16 KiB for each. A
/// value of 400 bytes takes 1 KiB of that to be read, or 4 KiB without optimization.
const LEVELS: u32 = 128;
/// How many values each message may hold, ...
const VALUES: u64 = 65_536;
/// ... and how many more for each byte. A number in three structures, each with a `PhantomData`, is
/// seven values, of one byte at the least.
const VALUES_PER_BYTE: u64 = 8;

/// Reads the value that is all of a message.
pub(super) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, ValueError> {
    let limit = VALUES.saturating_add(VALUES_PER_BYTE.saturating_mul(bytes.len() as u64));
    let budget = Budget { bytes: bytes.len(), values: Cell::new(limit), spent: Cell::new(None) };
    let mut deserializer = postcard::Deserializer::from_bytes(bytes);
    let value = T::deserialize(Level { budget: &budget, around: 0 }.of(&mut deserializer));
    // First, because a type can go on after an error, and make up a value.
    match budget.spent.get() {
        None => {}
        Some(Spent::Levels) => return Err(ValueError::TooDeep { limit: LEVELS }),
        Some(Spent::Values) => return Err(ValueError::TooMany { limit }),
    }
    let value = value.map_err(ValueError::encoding)?;
    match deserializer.finalize().map_err(ValueError::encoding)?.len() {
        0 => Ok(value),
        len => Err(ValueError::Rest { len }),
    }
}

/// What is left for one message.
struct Budget {
    bytes: usize,
    values: Cell<u64>,
    spent: Cell<Option<Spent>>,
}

#[derive(Clone, Copy)]
enum Spent {
    Levels,
    Values,
}

impl Budget {
    fn refuse<E: Error>(&self, spent: Spent) -> E {
        self.spent.set(Some(spent));
        // Nobody sees it: `read` looks at what was spent.
        E::custom("more than a message of this length may hold")
    }

    fn take_value<E: Error>(&self) -> Result<(), E> {
        match self.values.get().checked_sub(1) {
            Some(left) => {
                self.values.set(left);
                Ok(())
            }
            None => Err(self.refuse(Spent::Values)),
        }
    }
}

/// How many values are around the one that is read.
#[derive(Clone, Copy)]
struct Level<'a> {
    budget: &'a Budget,
    around: u32,
}

impl<'a> Level<'a> {
    fn of<T>(self, inner: T) -> Budgeted<'a, T> {
        Budgeted { inner, level: self }
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.around == LEVELS {
            return Err(self.budget.refuse(Spent::Levels));
        }
        Ok(Self { around: self.around + 1, ..self })
    }
}

/// A deserializer, or what it and a type hand to each other, at a level.
///
/// Each value that has others inside is a level. Each of those is taken from the budget where a
/// type asks for it; those of options and new types are not, as they are one for each level.
struct Budgeted<'a, T> {
    inner: T,
    level: Level<'a>,
}

/// Requests for values that have none inside: as they are.
macro_rules! leaves {
    ($($request:ident($($name:ident)?);)+) => {$(
        fn $request<V: Visitor<'de>>(
            self,
            $($name: &'static str,)?
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            self.inner.$request($($name,)? visitor)
        }
    )+};
}

/// Requests for values with others inside.
macro_rules! levels {
    ($($request:ident($($argument:ident: $type:ty),*);)+) => {$(
        fn $request<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            let level = self.level.deeper()?;
            self.inner.$request($($argument,)* level.of(visitor))
        }
    )+};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Budgeted<'_, D> {
    type Error = D::Error;

    leaves! {
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_unit();
        deserialize_unit_struct(name);
    }

    levels! {
        deserialize_option();
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        // `postcard` has none of these and says so.
        deserialize_any();
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Of values that have others inside: it gets nothing else.
impl<'de, V: Visitor<'de>> Visitor<'de> for Budgeted<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(self.level.of(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(self.level.of(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(self.level.of(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(self.level.of(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(self.level.of(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Budgeted<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.level.budget.take_value()?;
        self.inner.deserialize(self.level.of(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Budgeted<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        if self.level.budget.spent.get().is_some() {
            // For a type that skips elements with errors until there are no more.
            return Ok(None);
        }
        self.inner.next_element_seed(self.level.of(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Budgeted<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        if self.level.budget.spent.get().is_some() {
            return Ok(None);
        }
        self.inner.next_key_seed(self.level.of(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(self.level.of(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        // Unlike that of a list, `postcard` gives it as it was claimed.
        self.inner.size_hint().filter(|entries| *entries <= self.level.budget.bytes)
    }
}

impl<'a, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Budgeted<'a, A> {
    type Error = A::Error;
    type Variant = Budgeted<'a, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        // It is read from its number alone.
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, self.level.of(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Budgeted<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(self.level.of(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, self.level.of(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, self.level.of(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashMap},
        ffi::CString,
        fmt::Debug,
        net::IpAddr,
    };

    use serde::{
        Deserialize, Deserializer, Serialize,
        de::{SeqAccess, Visitor},
    };

    use super::{LEVELS, VALUES, VALUES_PER_BYTE, read};
    use crate::typed::ValueError;

    /// The claim of a length that nothing has.
    const ENDLESS: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Unit,
        Newtype(u16),
        Tuple(u8, String),
        Struct { left: i64, right: Option<Box<Choice>> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Marker;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Newtype(f32);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pair(u8, Marker);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kinds<'a> {
        signed: (i8, i16, i32, i64, i128),
        unsigned: (u8, u16, u32, u64, u128),
        others: (bool, f32, f64, char, ()),
        text: String,
        borrowed_text: &'a str,
        bytes: CString,
        borrowed_bytes: &'a [u8],
        options: [Option<u8>; 2],
        structs: (Marker, Newtype, Pair),
        list: Vec<Choice>,
        map: BTreeMap<String, Vec<u32>>,
        hashed: HashMap<u8, Choice>,
        // Text where a format is for people.
        address: IpAddr,
    }

    #[test]
    fn each_kind_of_value_comes_back_as_it_was() {
        let kinds = Kinds {
            signed: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN),
            unsigned: (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX),
            others: (true, 0.5, -0.25, 'ß', ()),
            text: "text".into(),
            borrowed_text: "borrowed",
            bytes: c"bytes".into(),
            borrowed_bytes: b"borrowed",
            options: [None, Some(3)],
            structs: (Marker, Newtype(1.5), Pair(4, Marker)),
            list: vec![
                Choice::Unit,
                Choice::Newtype(300),
                Choice::Tuple(5, "tuple".into()),
                Choice::Struct { left: -6, right: Some(Box::new(Choice::Unit)) },
            ],
            map: BTreeMap::from([("key".into(), vec![7, 8]), (String::new(), vec![])]),
            hashed: HashMap::from([(9, Choice::Unit)]),
            address: IpAddr::from([127, 0, 0, 1]),
        };
        let bytes = postcard::to_stdvec(&kinds).unwrap();
        assert_eq!(read::<Kinds<'_>>(&bytes).unwrap(), kinds);
        assert_eq!(postcard::from_bytes::<Kinds<'_>>(&bytes).unwrap(), kinds);
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    enum Nest {
        End,
        Newtype(Box<Nest>),
        Option(Option<Box<Nest>>),
        List(Vec<Nest>),
        Tuple(u8, Box<Nest>),
        Struct { inside: Box<Nest> },
        Map(BTreeMap<u8, Nest>),
        Value(BTreeMap<u8, Box<Nest>>),
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Chain(Option<Box<Chain>>);

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    struct Keys(BTreeMap<Keys, u8>);

    fn is_too_deep<T: Debug>(read: &Result<T, ValueError>) -> bool {
        matches!(read, Err(ValueError::TooDeep { limit: LEVELS }))
    }

    #[test]
    fn values_are_read_down_to_the_last_level_and_no_deeper() {
        // An enumeration with a new type inside is one level.
        let nested = |levels: usize| [vec![1; levels - 1], vec![0]].concat();
        assert!(read::<Nest>(&nested(LEVELS as usize)).is_ok());
        assert!(is_too_deep(&read::<Nest>(&nested(LEVELS as usize + 1))));
        // A new type with an option is two. The last option has nothing inside.
        let nested = |links: usize| [vec![1; links - 1], vec![0]].concat();
        assert!(read::<Chain>(&nested(LEVELS as usize / 2)).is_ok());
        assert!(is_too_deep(&read::<Chain>(&nested(LEVELS as usize / 2 + 1))));
    }

    #[test]
    fn no_kind_of_value_can_be_nested_without_end() {
        const DEEP: usize = 100_000;
        for step in [&[1][..], &[2, 1], &[3, 1], &[4, 0], &[5], &[6, 1, 0], &[7, 1, 0]] {
            assert!(is_too_deep(&read::<Nest>(&step.repeat(DEEP))), "{step:?}");
        }
        assert!(is_too_deep(&read::<Chain>(&[1].repeat(DEEP))));
        assert!(is_too_deep(&read::<Keys>(&[1].repeat(DEEP))));
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Endless(Box<Endless>);

    #[test]
    fn a_type_that_no_value_can_have_is_refused() {
        assert!(is_too_deep(&read::<Endless>(&[])));
    }

    fn is_too_many<T: Debug>(read: &Result<T, ValueError>) -> bool {
        matches!(read, Err(ValueError::TooMany { .. }))
    }

    #[test]
    fn as_many_values_are_read_as_the_length_of_a_message_allows() {
        // The length of such a list takes three bytes.
        let limit = VALUES + 3 * VALUES_PER_BYTE;
        let claim = |len: u64| postcard::to_stdvec(&len).unwrap();
        assert_eq!(read::<Vec<()>>(&claim(limit)).unwrap().len() as u64, limit);
        let read = read::<Vec<()>>(&claim(limit + 1));
        assert!(matches!(read, Err(ValueError::TooMany { limit: told }) if told == limit));
    }

    #[test]
    fn things_without_bytes_cannot_be_claimed_to_be_endless() {
        assert!(is_too_many(&read::<Vec<()>>(&ENDLESS)));
        assert!(is_too_many(&read::<Vec<Marker>>(&ENDLESS)));
        assert!(is_too_many(&read::<Vec<[(); 32]>>(&ENDLESS)));
        assert!(is_too_many(&read::<BTreeMap<(), ()>>(&ENDLESS)));
        // Things with bytes end with the message.
        let read = read::<HashMap<u64, u64>>(&ENDLESS);
        assert!(matches!(read, Err(ValueError::Encoding(_))), "{read:?}");
    }

    /// How many elements can be read. It goes on after those that cannot.
    #[derive(Debug)]
    struct Readable;

    impl<'de> Deserialize<'de> for Readable {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Skip;

            impl<'de> Visitor<'de> for Skip {
                type Value = Readable;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a list")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Readable, A::Error> {
                    while !matches!(list.next_element::<u8>(), Ok(None)) {}
                    Ok(Readable)
                }
            }

            deserializer.deserialize_seq(Skip)
        }
    }

    #[test]
    fn a_type_that_goes_on_after_errors_ends_too() {
        assert!(read::<Readable>(&[2, 0]).is_ok());
        assert!(is_too_many(&read::<Readable>(&ENDLESS)));
    }
}
