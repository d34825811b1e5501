//! What a convolution computes.

/// A 2-D convolution (cross-correlation) of row-major f32 tensors: images `[images, inputs, h, w]`,
/// weights `[outputs, inputs / groups, kh, kw]`, results `[images, outputs, oh, ow]`. Pairs are
/// (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Shape {
    pub images: usize,
    pub groups: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub image: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
}

impl Shape {
    /// Height and width of the results; none if the kernel does not fit, or if a count is zero or
    /// no multiple of the groups.
    pub fn result(&self) -> Option<[usize; 2]> {
        let counts = [self.images, self.inputs, self.outputs, self.groups];
        if counts.contains(&0) || self.inputs % self.groups + self.outputs % self.groups > 0 {
            return None;
        }
        let size = |d: usize| {
            let reach = self.dilation[d] * self.kernel[d].checked_sub(1)? + 1;
            let room = (self.image[d] + 2 * self.padding[d]).checked_sub(reach)?;
            Some(room.checked_div(self.stride[d])? + 1)
        };
        Some([size(0)?, size(1)?])
    }

    /// Positions of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Whether each input channel has filters of its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.inputs
    }

    /// Multiplications.
    pub fn work(&self) -> usize {
        let [h, w] = self.result().unwrap_or([0; 2]);
        self.images * self.outputs * h * w * self.inputs / self.groups * self.taps()
    }
}
