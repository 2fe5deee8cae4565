"""The named kernels as plain data: weights or formula, divisor, purpose and source.

Arithmetic is left to `cnnfilter.kernels.lookup`, so that a list of the kernels is printed without importing numpy.

Conventions, for every entry:

- Weights are as drawn: they are multiplied with the picture without being flipped (cross-correlation).
- ``-h`` finds horizontal edges, ``-v`` vertical ones; a derivative is positive where the picture gets
  brighter downwards or to the right.
- A compass direction names the brighter side: ``kirsch:n`` is positive where the picture is brighter above.
- Angles are in degrees, counter-clockwise from the right (as in MATLAB's ``fspecial``).
- A blur sums to 1, a kernel for edges to 0.
"""

from __future__ import annotations

from typing import NamedTuple

from cnnfilter.runtime import limits


class Parameter(NamedTuple):
    """One argument after the colon of a name."""

    name: str
    default: float | str | None
    """The value if it is left out; None if the formula derives it from the other arguments."""
    minimum: float = 0.0
    maximum: float | None = 0.0
    """None for `limits.kernel_side`, which an option of the command line can raise."""
    is_integer: bool = False
    choices: tuple[str, ...] = ()

    @property
    def maximum_allowed(self) -> float:
        """The largest value under the limits of this process."""
        return limits.kernel_side if self.maximum is None else self.maximum


class Entry(NamedTuple):
    """A named kernel. Its weights are `rows`, `column` times `row`, or the result of `formula`."""

    name: str
    family: str
    purpose: str
    source: str
    rows: str = ""
    column: str = ""
    row: str = ""
    formula: str = ""
    divisor: float = 1.0
    parameters: tuple[Parameter, ...] = ()
    members: tuple[str, ...] = ()
    """The kernels that the bare name stands for, if it stands for several."""
    combine: str = ""
    """The rule that combines the results of the members: ``magnitude`` or ``max``."""
    example: str = ""

    @property
    def usage(self) -> str:
        """The name with its arguments, as it is typed.

        Examples
        --------
        >>> ENTRIES["gaussian"].usage
        'gaussian:SIGMA[,SIZE]'
        """
        text = ""
        for parameter in self.parameters:
            word = ("," if text else ":") + parameter.name.upper()
            text += f"[{word}]" if parameter.default is None else word
        return self.name + text


# In the order in which `cnnfilter kernels list` shows them.
FAMILIES = {
    "plain": "As it is",
    "blur": "Blur",
    "sharpen": "Sharpen",
    "pass": "High-pass and low-pass",
    "blob": "Second derivatives",
    "edge": "Edges",
    "compass": "Edges by compass direction",
    "line": "Lines and stripes",
    "relief": "Relief",
}

COMPASS = ("n", "ne", "e", "se", "s", "sw", "w", "nw")

_ANGLE = Parameter("angle", 0.0, -360, 360)
_DIRECTION = Parameter("direction", None, choices=COMPASS)

_GONZALEZ_1992 = "Gonzalez & Woods (1992), Digital Image Processing, section 4.3"
_GONZALEZ_LINES = "Gonzalez & Woods (2018), Digital Image Processing, 4th ed., section 10.2, line masks"
_ROBERTS = "Roberts (1963), Machine perception of three-dimensional solids; signs as scikit-image's result"
_SOBEL = "Sobel & Feldman (1968), An isotropic 3x3 image gradient operator"
_SCHARR = "Scharr (2000), Optimal operators in digital image processing; whole numbers as in OpenCV"
_PREWITT = "Prewitt (1970), Object enhancement and extraction"
_FARID = "Farid & Simoncelli (2004), Differentiation of discrete multidimensional signals, Table 1, 5 taps"
_FREI_CHEN = "Frei & Chen (1977), Fast boundary detection: masks 1 and 2 without their factor 1/(2 sqrt 2)"

_FARID_SMOOTH = "0.0376593171958126 0.249153396177344 0.426374573253687 0.249153396177344 0.0376593171958126"
_FARID_EDGE = "-0.109603762960254 -0.276690988455557 0 0.276690988455557 0.109603762960254"
_FREI_CHEN_SMOOTH = "1 1.4142135623730951 1"


def _side(name: str, default: float | None) -> Parameter:
    return Parameter(name, default, minimum=1, maximum=None, is_integer=True)


def _sigma(name: str, default: float) -> Parameter:
    return Parameter(name, default, minimum=0.01, maximum=1000)


def _gradient(name: str, smooth: str, edge: str, words: str, source: str) -> list[Entry]:
    """Return the entries of a derivative: both directions by magnitude, along y (horizontal edges), and along x."""
    return [
        Entry(
            name,
            "edge",
            f"all edges: {name}-h and {name}-v by magnitude",
            source,
            members=(f"{name}-h", f"{name}-v"),
            combine="magnitude",
        ),
        Entry(f"{name}-h", "edge", f"horizontal edges{words}", source, column=edge, row=smooth),
        Entry(f"{name}-v", "edge", f"vertical edges{words}", source, column=smooth, row=edge),
    ]


_ENTRY_LIST = [
    Entry(
        "identity",
        "plain",
        "the picture as it is",
        "the unit of convolution",
        rows="0 0 0; 0 1 0; 0 0 0",
    ),
    Entry(
        "blur",
        "blur",
        "a light blur, 3x3",
        "binomial of order 2; Burt (1981), Fast filter transforms for image processing",
        column="1 2 1",
        row="1 2 1",
        divisor=16,
    ),
    Entry(
        "box",
        "blur",
        "the mean of N x N pixels (or box:H,W)",
        "the mean; OpenCV's blur, scipy.ndimage.uniform_filter",
        formula="box",
        parameters=(_side("n", 3), _side("w", None)),
        example="box:5",
    ),
    Entry(
        "gaussian",
        "blur",
        "Gaussian blur; SIZE is 8 SIGMA + 1 if left out",
        "sampled Gaussian, sums to 1; scipy.ndimage.gaussian_filter",
        formula="gaussian",
        parameters=(_sigma("sigma", 1.0), _side("size", None)),
        example="gaussian:1.4",
    ),
    Entry(
        "binomial",
        "blur",
        "binomial blur of N x N, a Gaussian in whole numbers",
        "row N - 1 of Pascal's triangle, both ways; Burt (1981)",
        formula="binomial",
        parameters=(_side("n", 5),),
        example="binomial:5",
    ),
    Entry(
        "motion",
        "blur",
        "motion blur along a line, LENGTH in pixels",
        "weights 1 - distance to the line; MATLAB's fspecial motion",
        formula="motion",
        parameters=(Parameter("length", 15.0, 1, None), _ANGLE),
        example="motion:15,30",
    ),
    Entry(
        "disk",
        "blur",
        "out-of-focus blur: the mean of a disk of RADIUS",
        "each pixel's share of the disk, exact; MATLAB's fspecial disk",
        formula="disk",
        parameters=(Parameter("radius", 3.0, 0.1, 511),),
        example="disk:3",
    ),
    Entry(
        "sharpen",
        "sharpen",
        "sharpen: identity - laplacian",
        "Gonzalez & Woods (2018), Digital Image Processing, 4th ed., section 3.6",
        rows="0 -1 0; -1 5 -1; 0 -1 0",
    ),
    Entry(
        "sharpen-more",
        "sharpen",
        "sharpen strongly: identity - laplacian-8",
        "Gonzalez & Woods (2018), Digital Image Processing, 4th ed., section 3.6",
        rows="-1 -1 -1; -1 9 -1; -1 -1 -1",
    ),
    Entry(
        "unsharp",
        "sharpen",
        "adds AMOUNT times what a Gaussian blur takes away",
        "identity + amount (identity - gaussian:sigma); skimage.filters.unsharp_mask",
        formula="unsharp",
        parameters=(_sigma("sigma", 1.0), Parameter("amount", 1.0, -100, 100)),
        example="unsharp:1.5,0.8",
    ),
    Entry(
        "high-boost",
        "sharpen",
        "A times the picture - low-pass; 2 keeps brightness",
        _GONZALEZ_1992 + ", high-boost: weights -1 and 9A - 1, divided by 9",
        formula="high_boost",
        divisor=9,
        parameters=(Parameter("a", 2.0, 1, 100),),
        example="high-boost:2",
    ),
    Entry(
        "low-pass",
        "pass",
        "keeps the coarse: the mean of 3x3",
        _GONZALEZ_1992 + ", lowpass",
        column="1 1 1",
        row="1 1 1",
        divisor=9,
    ),
    Entry(
        "high-pass",
        "pass",
        "keeps the fine: identity - low-pass",
        _GONZALEZ_1992 + ", highpass",
        rows="-1 -1 -1; -1 8 -1; -1 -1 -1",
        divisor=9,
    ),
    Entry(
        "high-pass-5",
        "pass",
        "keeps the fine, with a wider reach: identity - box:5",
        _GONZALEZ_1992 + ", highpass, 5x5",
        rows="-1 -1 -1 -1 -1; -1 -1 -1 -1 -1; -1 -1 24 -1 -1; -1 -1 -1 -1 -1; -1 -1 -1 -1 -1",
        divisor=25,
    ),
    Entry(
        "laplacian",
        "blob",
        "second derivative, 4 neighbours",
        "5-point Laplacian; OpenCV's Laplacian with ksize 1, scipy.ndimage.laplace",
        rows="0 1 0; 1 -4 1; 0 1 0",
    ),
    Entry(
        "laplacian-8",
        "blob",
        "second derivative, 8 neighbours",
        "9-point Laplacian with equal weights; Gonzalez & Woods (2018), section 3.6",
        rows="1 1 1; 1 -8 1; 1 1 1",
    ),
    Entry(
        "outline",
        "blob",
        "what differs from its 8 neighbours: -laplacian-8",
        "the negative of laplacian-8",
        rows="-1 -1 -1; -1 8 -1; -1 -1 -1",
    ),
    Entry(
        "log",
        "blob",
        "Laplacian of Gaussian: blobs and edges of SIGMA's size",
        "Marr & Hildreth (1980), Theory of edge detection; made to sum to exactly 0",
        formula="log",
        parameters=(Parameter("sigma", 1.4, 0.3, 1000),),
        example="log:1.4",
    ),
    Entry(
        "dog",
        "blob",
        "difference of Gaussians: what lies between two sizes",
        "gaussian:sigma1 - gaussian:sigma2, sums to exactly 0; skimage.filters.difference_of_gaussians",
        formula="dog",
        parameters=(_sigma("sigma1", 1.0), _sigma("sigma2", 1.6)),
        example="dog:1,1.6",
    ),
    *_gradient("sobel", "1 2 1", "-1 0 1", "", _SOBEL),
    *_gradient("scharr", "3 10 3", "-1 0 1", ", even strength at every angle", _SCHARR),
    *_gradient("prewitt", "1 1 1", "-1 0 1", ", equal weights", _PREWITT),
    *_gradient("farid", _FARID_SMOOTH, _FARID_EDGE, ", 5x5, a true derivative", _FARID),
    *_gradient("frei-chen", _FREI_CHEN_SMOOTH, "-1 0 1", ", isotropic weights", _FREI_CHEN),
    Entry(
        "roberts",
        "edge",
        "all edges: roberts-1 and roberts-2 by magnitude",
        _ROBERTS,
        members=("roberts-1", "roberts-2"),
        combine="magnitude",
    ),
    Entry(
        "roberts-1",
        "edge",
        "edges like /, 2x2; brighter to the lower right",
        _ROBERTS,
        rows="-1 0; 0 1",
    ),
    Entry(
        "roberts-2",
        "edge",
        "edges like \\, 2x2; brighter to the lower left",
        _ROBERTS,
        rows="0 -1; 1 0",
    ),
    Entry(
        "kirsch",
        "compass",
        "brighter to one side; bare name: strongest of 8",
        "Kirsch (1971), Computer determination of the constituent structure of biological images",
        formula="kirsch",
        parameters=(_DIRECTION,),
        members=tuple(f"kirsch:{side}" for side in COMPASS),
        combine="max",
        example="kirsch:ne",
    ),
    Entry(
        "robinson",
        "compass",
        "a Sobel turned by eighths; bare name: strongest of 8",
        "Robinson (1977), Edge detection by compass gradient masks, 5-level masks",
        formula="robinson",
        parameters=(_DIRECTION,),
        members=tuple(f"robinson:{side}" for side in COMPASS),
        combine="max",
        example="robinson:ne",
    ),
    Entry("line-h", "line", "thin horizontal lines", _GONZALEZ_LINES, column="-1 2 -1", row="1 1 1"),
    Entry("line-v", "line", "thin vertical lines", _GONZALEZ_LINES, column="1 1 1", row="-1 2 -1"),
    Entry("line-45", "line", "thin lines like /", _GONZALEZ_LINES, rows="-1 -1 2; -1 2 -1; 2 -1 -1"),
    Entry("line-135", "line", "thin lines like \\", _GONZALEZ_LINES, rows="2 -1 -1; -1 2 -1; -1 -1 2"),
    Entry(
        "gabor",
        "line",
        "stripes of a WAVELENGTH across ANGLE (0: upright)",
        "Gabor wave one octave wide in a round Gaussian, cosine phase, sums to exactly 0; a wave like it "
        "comes out at its own height; skimage.filters.gabor_kernel (its theta is minus the angle)",
        formula="gabor",
        parameters=(Parameter("wavelength", 8.0, 2, 1000), _ANGLE),
        example="gabor:8,45",
    ),
    Entry(
        "emboss",
        "relief",
        "relief, lit from the lower right",
        "the customary 3x3 relief kernel: identity + a diagonal derivative",
        rows="-2 -1 0; -1 1 1; 0 1 2",
    ),
]

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _ENTRY_LIST}

# Names in other programs, and the kernel that is suggested for each. They are not accepted as names.
OTHER_NAMES = {
    "average": "box",
    "bokeh": "disk",
    "edge": "sobel",
    "edge-detect": "outline",
    "edges": "sobel",
    "farid-x": "farid-v",
    "farid-y": "farid-h",
    "find-edges": "outline",
    "gauss": "gaussian",
    "gaussian-blur": "gaussian",
    "highboost": "high-boost",
    "highpass": "high-pass",
    "lowpass": "low-pass",
    "mean": "box",
    "mexican-hat": "log",
    "motion-blur": "motion",
    "pillbox": "disk",
    "prewitt-x": "prewitt-v",
    "prewitt-y": "prewitt-h",
    "scharr-x": "scharr-v",
    "scharr-y": "scharr-h",
    "sobel-x": "sobel-v",
    "sobel-y": "sobel-h",
    "uniform": "box",
    "unsharp-mask": "unsharp",
}
