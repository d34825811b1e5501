//! What follows a product before it is stored, as `kernels/epilogue.h` has it.

/// `activate(x * scale + bias + residual)`, or the residual after the activation; any part may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// What is computed of each element.
    pub activation: Activation,
    /// A vector is added.
    pub bias: Option<Axis>,
    /// A vector of f32 multiplies before.
    pub scale: Option<Axis>,
    /// The vector that is added is of f32, not of the result's type.
    pub floats: bool,
    /// A matrix of the result's type is added.
    pub residual: Option<Order>,
}

/// A function of one element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the functions")]
pub enum Activation {
    #[default]
    None,
    Relu,
    /// With erf.
    Gelu,
    GeluTanh,
    Silu,
}

/// What a vector has a number for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Each column of the result.
    Column = 1,
    /// Each row; of a convolution, each channel.
    Row = 2,
}

/// When a residual is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "of the activation")]
pub enum Order {
    After = 1,
    Before = 2,
}

impl Epilogue {
    /// Values of the specialization constants 0, 1, ...
    pub(super) fn constants(&self) -> [i32; 5] {
        [
            self.activation as i32,
            self.bias.map_or(0, |axis| axis as i32),
            self.residual.map_or(0, |order| order as i32),
            self.scale.map_or(0, |axis| axis as i32),
            self.floats.into(),
        ]
    }
}
