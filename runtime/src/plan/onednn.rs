//! Convolutions that oneDNN computes with what follows them, or of weights that are packed for it once.

use super::packed::Packed;
use super::shared::Slot;
use super::{Route, TensorRef};
use crate::aten::dispatch::Argument;
use crate::aten::onednn::{self, PostOp, Window};
use crate::aten::{Aten, Tensor};
use crate::cpu::Isa;
use crate::{DType, Error};
use thiserror::Error as Reason;

/// A convolution by oneDNN.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct OnednnStep {
    pub image: TensorRef,
    pub weight: TensorRef,
    pub bias: Option<TensorRef>,
    /// All of a buffer.
    pub out: TensorRef,
    pub window: Window,
    pub then: PostOp,
    /// The weight never changes: where its packed form is kept between calls ([`super::Plan::packs`]).
    pub pack: Option<u32>,
}

/// Why a convolution is not given to oneDNN in person.
#[derive(Clone, Debug, PartialEq, Eq, Reason)]
pub enum NotOnednn {
    /// The call is another one.
    #[error("not aten.convolution through the dispatcher")]
    Call,
    /// No f32 or bf16, or several types.
    #[error("element types that oneDNN has no kernel for here")]
    Types,
    /// The image has no batch, or 1 dimension that is transposed.
    #[error("an image of {0} dimensions")]
    Rank(usize),
    /// Nothing is computed.
    #[error("no elements")]
    Empty,
    /// A list is not as long as the image has dimensions.
    #[error("lists of other lengths than the image has dimensions")]
    Lists,
    /// Padding behind a transposed convolution is as wide as its steps.
    #[error("output padding as wide as a step")]
    OutputPadding,
    /// Each channel on its own, transposed: plain loops of ATen's are faster.
    #[error("a depthwise transposed convolution")]
    DepthwiseTransposed,
    /// oneDNN takes longer to begin than ATen's own loops for everything.
    #[error("{0} multiplications are too few")]
    Small(i64),
}

/// Multiplications from which oneDNN is faster than the loops that ATen has for small images, and the same for transposed
/// ones (2 cores of Zen 5: 0.9 and 1.3 times at 1.8 and 3.5 million; transposed 0.7 to 1.0 up to 14, 1.1 to 1.4 from 19).
const WORK: [i64; 2] = [3_000_000, 16_000_000];

impl OnednnStep {
    /// A call as such a step, without a post-op. `tensors` are image, weight and perhaps bias.
    pub fn of(
        name: &str,
        route: &Route,
        tensors: &[TensorRef],
        out: TensorRef,
    ) -> Result<OnednnStep, NotOnednn> {
        let (Route::Dispatcher { operator, .. }, "aten.convolution.default") = (route, name) else {
            return Err(NotOnednn::Call);
        };
        let ([image, weight], bias) = match tensors {
            [image, weight] => ([image, weight], None),
            [image, weight, bias] => ([image, weight], Some(bias)),
            _ => return Err(NotOnednn::Call),
        };
        let step = OnednnStep {
            image: image.clone(),
            weight: weight.clone(),
            bias: bias.cloned(),
            out,
            window: window(&operator.arguments).ok_or(NotOnednn::Call)?,
            then: PostOp::None,
            pack: None,
        };
        match step.refusal() {
            Some(why) => Err(why),
            None => Ok(step),
        }
    }

    fn refusal(&self) -> Option<NotOnednn> {
        let (rank, w) = (self.image.sizes.len(), &self.window);
        let dtype = DType::from_torch(self.image.scalar_type);
        let typed = match dtype {
            Some(DType::F32) => true,
            Some(DType::BF16) => Isa::detect() >= Isa::Avx512,
            _ => false,
        };
        let others = [Some(&self.weight), self.bias.as_ref(), Some(&self.out)];
        let mut others = others.into_iter().flatten();
        if !typed || others.any(|t| t.scalar_type != self.image.scalar_type) {
            return Some(NotOnednn::Types);
        }
        if !(3..=5).contains(&rank) || self.weight.sizes.len() != rank {
            return Some(NotOnednn::Rank(rank));
        }
        if [&self.image, &self.weight, &self.out]
            .iter()
            .any(|t| t.sizes.contains(&0))
        {
            return Some(NotOnednn::Empty);
        }
        let mut lists = [&w.stride, &w.padding, &w.dilation].into_iter();
        if lists.any(|l| l.len() != rank - 2) || w.transposed && w.output_padding.len() != rank - 2
        {
            return Some(NotOnednn::Lists);
        }
        let mut steps = w.output_padding.iter().zip(&w.stride);
        if w.transposed && steps.any(|(more, step)| more >= step) {
            return Some(NotOnednn::OutputPadding);
        }
        if w.transposed && w.groups > 1 && w.groups == self.image.sizes[1] {
            return Some(NotOnednn::DepthwiseTransposed);
        }
        let work = self.work();
        let too_small = self.left_to_loops() && work < WORK[usize::from(w.transposed)];
        too_small.then_some(NotOnednn::Small(work))
    }

    /// Multiplications.
    fn work(&self) -> i64 {
        let pixels: i64 = match self.window.transposed {
            true => self.image.sizes.iter().product(),
            false => self.out.sizes.iter().product(),
        };
        // The inputs of an output, or the outputs of an input.
        let taps: i64 = self.weight.sizes[1..].iter().product();
        pixels.saturating_mul(taps)
    }

    /// Whether ATen leaves it to loops of its own (`ConvParams::use_mkldnn`).
    fn left_to_loops(&self) -> bool {
        let (image, weight) = (&self.image.sizes, &self.weight.sizes);
        let rank = image.len();
        // One dimension counts as two, and of three the last one does not.
        let wide = rank > 3 && weight[rank - 2..].iter().all(|&n| n > 3);
        let size: i64 = image.iter().take(4).product();
        let f32s = self.image.scalar_type == DType::F32.torch_code();
        f32s && self.window.groups == 1 && image[0] == 1 && size <= 20480 && !wide
    }

    /// Whether packing weights that never change pays: the result of packed ones is channels-last, and both image and result
    /// are turned where they are not, which has to cost less than turning the weights (2 cores of Zen 5: 1.5 times faster with 9 MiB of
    /// weights beside 0.1 of results, 0.9 with 0.1 beside 1.6).
    pub fn packs(&self) -> bool {
        let bytes = |t: &TensorRef| t.sizes.iter().product::<i64>();
        let ends = [&self.image, &self.out].map(|t| if by_pixels(t) { 0 } else { bytes(t) });
        let rank = self.image.sizes.len();
        rank > 3 && 2 * bytes(&self.weight) >= ends[0] + ends[1]
    }

    /// Whether it differs from ATen's call in more than the way to oneDNN.
    pub fn pays(&self) -> bool {
        self.pack.is_some() || self.then != PostOp::None || self.left_to_loops()
    }

    /// The problem that it solves: what a choice between it and ATen's depends on.
    pub fn problem(&self) -> String {
        let of = |t: &TensorRef| format!("{} {:?}/{:?}", t.scalar_type, t.sizes, t.strides);
        let (packed, bias) = (self.pack.is_some(), self.bias.is_some());
        let (image, weight, window, then) =
            (of(&self.image), of(&self.weight), &self.window, self.then);
        format!("oneDNN {image} {weight} {window:?}, {then:?}, bias {bias}, packed {packed}")
    }

    /// Computes it. `tensor` finds the tensors in memory.
    pub(super) fn run(
        &self,
        aten: &'static Aten,
        packs: &[Slot],
        tensor: &dyn Fn(&TensorRef) -> Result<Tensor, Error>,
    ) -> Result<Tensor, Error> {
        let image = tensor(&self.image)?;
        let bias = self.bias.as_ref().map(tensor).transpose()?;
        let convolve = |weight: &Tensor| {
            onednn::convolve(&image, weight, bias.as_ref(), &self.window, self.then)
        };
        let Some(slot) = self.pack.and_then(|n| packs.get(n as usize)) else {
            return convolve(&tensor(&self.weight)?);
        };
        if slot.get().is_none() {
            let weight = tensor(&self.weight)?;
            let bytes = self.weight.sizes.iter().product::<i64>() as usize;
            let item = DType::from_torch(self.weight.scalar_type).map_or(0, DType::size);
            // An operator that is not there, or that another version of PyTorch has with other arguments.
            let packed = onednn::pack(aten, weight, &self.window, &self.image.sizes).ok();
            slot.get_or_init(|| Packed::Onednn(packed.map(|packed| (packed, bytes * item))));
        }
        match slot.get() {
            Some(Packed::Onednn(Some((packed, _)))) => convolve(packed),
            _ => convolve(&tensor(&self.weight)?),
        }
    }
}

/// Whether an image lies in channels-last order.
fn by_pixels(t: &TensorRef) -> bool {
    let (sizes, mut stride) = (&t.sizes, 1);
    let order = std::iter::once(1).chain((2..sizes.len()).rev()).chain([0]);
    order.into_iter().all(|d| {
        let fits = sizes[d] == 1 || t.strides[d] == stride;
        stride *= sizes[d];
        fits
    })
}

/// The window in the arguments of `aten::convolution`.
fn window(arguments: &[Argument]) -> Option<Window> {
    use Argument::{List, Word};
    let [
        _,
        _,
        _,
        List(stride),
        List(padding),
        List(dilation),
        Word(transposed),
        List(more),
        Word(groups),
    ] = arguments
    else {
        return None;
    };
    let list = |items: &[Argument]| {
        let word = |a: &Argument| match a {
            Word(n) => Some(*n as i64),
            _ => None,
        };
        items.iter().map(word).collect::<Option<Vec<i64>>>()
    };
    Some(Window {
        stride: list(stride)?,
        padding: list(padding)?,
        dilation: list(dilation)?,
        output_padding: list(more)?,
        groups: *groups as i64,
        transposed: *transposed != 0,
    })
}
