//! `Debug` of types that hold a secret, or too much to be printed.

/// Implements `Debug` with a text: `debug_as!(MapKey, "MapKey(..)");`, or with something of the value:
/// `debug_as!(Signer, |signer| "Signer({})", signer.id());`.
#[macro_export]
macro_rules! debug_as {
    ($type:ty, $text:literal) => {
        $crate::debug_as!($type, |_value| $text);
    };
    ($type:ty, |$value:ident| $($text:tt)+) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $value = self;
                write!(f, $($text)+)
            }
        }
    };
}
