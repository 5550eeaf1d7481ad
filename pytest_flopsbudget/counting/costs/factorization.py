"""Factorizations and solvers: the leading terms of the operation counts of LAPACK's algorithms.

The matrix has m rows and n columns, with m ≥ n. (A matrix with m < n is counted as its transpose.) k is the number of
right-hand sides or of reflectors.

=============================  ======================================  ================================
LU                             m·n² - n³/3                             GVL §3.2; LAWN 41 GETRF
Cholesky, LDLᵀ                 n³/3                                    GVL §4.2, §4.4; LAWN 41 POTRF, SYTRF
triangular solve               n²·k                                    GVL §3.1; LAWN 41 TRTRS
inverse                        2·n³                                    LAWN 41 GETRF and GETRI
inverse from Cholesky          2·n³/3                                  LAWN 41 POTRI
QR                             2·n²·(m - n/3)                          GVL §5.2; LAWN 41 GEQRF
Q of k reflectors              4·m·n·k - 2·(m + n)·k² + 4·k³/3         LAWN 41 ORGQR
k reflectors times a matrix    4·m·n·k - 2·n·k²                        LAWN 41 ORMQR
symmetric eigen                9·n³; values alone 4·n³/3               GVL §8.3
general eigen                  25·n³; values alone 10·n³               GVL §7.5
SVD                            4·m²·n + 8·m·n² + 9·n³ with square U;   GVL §8.6, Golub-Reinsch
                               14·m·n² + 8·n³ with thin U;
                               values alone 4·m·n² - 4·n³/3
least squares                  by QR, or by SVD 4·m·n² + 8·n³          GVL §5.3, §5.5
polar decomposition            16·m·n² + 10·n³: the SVD with thin U,   GVL §9.4.3
                               and the products U·Vᵀ and V·diag(s)·Vᵀ
square root of a symmetric     11·n³: the eigenvectors V, and          GVL §8.3, §9.4
matrix                         V·diag(√λ)·Vᵀ
=============================  ======================================  ================================

GVL is Golub and Van Loan, "Matrix Computations", 4th ed. LAWN 41 is Blackford and Dongarra, "Installation Guide for
LAPACK", LAPACK Working Note 41, appendix C. Fractions are rounded down once for each matrix. A complex matrix costs 4
times as much, because a product and a sum are 8 real operations instead of 2.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.costs.elementary import stored_elements
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

_COMPLEX = 4


def _scalar(tensor: torch.Tensor) -> int:
    return _COMPLEX if tensor.is_complex() else 1


def _matrices(tensor: torch.Tensor) -> int:
    """Return the number of matrices in a batch (…, m, n). For complex numbers, return 4 times this number."""
    return _scalar(tensor) * tensor.shape[:-2].numel()


def _tall(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the sizes of one matrix of a batch (…, rows, columns): the larger size, then the smaller size."""
    rows, columns = tensor.shape[-2:]
    return max(rows, columns), min(rows, columns)


def _lu(m: int, n: int) -> int:
    return (3 * m * n**2 - n**3) // 3


def _qr(m: int, n: int) -> int:
    return (6 * m * n**2 - 2 * n**3) // 3


def _explicit_q(m: int, n: int, k: int) -> int:
    return (12 * m * n * k - 6 * (m + n) * k**2 + 4 * k**3) // 3


def _svd(m: int, n: int, *, vectors: bool, square: bool) -> int:
    if not vectors:
        return (12 * m * n**2 - 4 * n**3) // 3
    if square:
        return 4 * m**2 * n + 8 * m * n**2 + 9 * n**3
    return 14 * m * n**2 + 8 * n**3


def _eigen(n: int, *, vectors: bool) -> int:
    return 9 * n**3 if vectors else 4 * n**3 // 3


@other_formula("aten._linalg_det", "aten._linalg_slogdet", "aten.linalg_lu", "aten.linalg_lu_factor_ex")
def _lu_factorization(call: Call) -> int:
    """Count the operations of an LU factorization.

    A determinant also needs n products. They are not a leading term, so they are not counted.
    """
    matrix = call.tensor("A")
    return _matrices(matrix) * _lu(*_tall(matrix))


def _substitutions(matrix: torch.Tensor, solution: torch.Tensor, count: int) -> int:
    """Count n²·k operations for each of ``count`` triangular solves of n rows and k right-hand sides."""
    return _scalar(solution) * count * matrix.shape[-1] * solution.numel()


@other_formula("aten._linalg_solve_ex")
def _solve(call: Call) -> int:
    matrix, solution = call.tensor("A"), call.first_output
    return _matrices(matrix) * _lu(*_tall(matrix)) + _substitutions(matrix, solution, 2)


@other_formula("aten.linalg_lu_solve", "aten.linalg_ldl_solve", "aten._cholesky_solve_helper", "aten.cholesky_solve")
def _solve_factored(call: Call) -> int:
    return _substitutions(call.tensor("LU", "LD", "A", "input2"), call.first_output, 2)


@other_formula("aten.linalg_solve_triangular")
def _solve_triangular(call: Call) -> int:
    return _substitutions(call.tensor("self"), call.first_output, 1)


@other_formula("aten.triangular_solve")
def _triangular_solve(call: Call) -> int:
    """Count the operations of solving one triangular system.

    If the matrix is sparse, each pair of a stored element and a right-hand side costs 2 operations.
    """
    matrix, solution = call.tensor("A"), call.first_output
    if matrix.layout is not torch.strided:
        return _scalar(solution) * 2 * stored_elements(matrix) * solution.shape[-1]
    return _substitutions(matrix, solution, 1)


@other_formula("aten._spsolve")
def _sparse_solve(call: Call) -> int:
    """Count 2 operations for each pair of a stored element of the matrix and a right-hand side.

    This is a lower bound, because the factors of the matrix may store more elements.
    """
    matrix, solution = call.tensor("A"), call.first_output
    sides = solution.numel() // max(matrix.shape[-1], 1)
    return _scalar(solution) * 2 * stored_elements(matrix) * sides


@other_formula("aten.geqrf")
def _reflectors(call: Call) -> int:
    matrix = call.tensor("self")
    return _matrices(matrix) * _qr(*_tall(matrix))


@other_formula("aten.linalg_qr")
def _qr_factorization(call: Call) -> int:
    """Count the operations of a QR factorization. In mode "r", Q is not computed."""
    matrix = call.tensor("A")
    rows, columns = matrix.shape[-2:]
    rank = min(rows, columns)
    cost = _qr(*_tall(matrix))
    if call["mode"] != "r":
        cost += _explicit_q(rows, rows if call["mode"] == "complete" else rank, rank)
    return _matrices(matrix) * cost


@other_formula("aten.linalg_householder_product")
def _householder_product(call: Call) -> int:
    """Count the operations of computing Q (m, n) from k reflectors."""
    matrix = call.tensor("input")
    rows, columns = matrix.shape[-2:]
    return _matrices(matrix) * _explicit_q(rows, columns, call.tensor("tau").shape[-1])


@other_formula("aten.ormqr")
def _apply_reflectors(call: Call) -> int:
    """Count the operations of multiplying a matrix by the orthogonal matrix Q. Q is given by k reflectors."""
    reflectors, matrix = call.tensor("input2"), call.tensor("input3")
    rows, columns = matrix.shape[-2:]
    k = reflectors.shape[-1]
    length, others = (rows, columns) if call["left"] else (columns, rows)
    return _matrices(matrix) * (4 * length * others * k - 2 * others * k**2)


@other_formula("aten._linalg_eigh")
def _symmetric_eigen(call: Call) -> int:
    matrix = call.tensor("A")
    return _matrices(matrix) * _eigen(matrix.shape[-1], vectors=call["compute_v"])


@other_formula("aten._linalg_svd", "prims.svd")
def _singular_values(call: Call) -> int:
    """Count the operations of the singular values, and of the singular vectors if they are requested.

    `prims.svd` always computes the vectors.
    """
    matrix = call.tensor("A")
    vectors = "compute_uv" not in call.names or bool(call["compute_uv"])
    return _matrices(matrix) * _svd(*_tall(matrix), vectors=vectors, square=call["full_matrices"])


@other_formula("aten.linalg_pinv")
def _pseudoinverse(call: Call) -> int:
    """Count the operations of factorizing the matrix, and of the product V·diag(1/s)·Uᵀ.

    A Hermitian matrix is factorized by its eigenvectors. Any other matrix is factorized by its thin SVD.
    """
    matrix = call.tensor("self")
    m, n = _tall(matrix)
    factors = _eigen(n, vectors=True) if call["hermitian"] else _svd(m, n, vectors=True, square=False)
    return _matrices(matrix) * (factors + 2 * m * n**2)


@other_formula("aten.linalg_polar")
def _polar(call: Call) -> int:
    """Count the operations of the thin SVD U·diag(s)·Vᵀ, and of the products U·Vᵀ and V·diag(s)·Vᵀ."""
    matrix = call.tensor("A")
    m, n = _tall(matrix)
    return _matrices(matrix) * (_svd(m, n, vectors=True, square=False) + 2 * m * n**2 + 2 * n**3)


#: Drivers of `torch.linalg.lstsq` that use the SVD; the other drivers use QR.
_BY_SVD = frozenset({"gelss", "gelsd"})


@other_formula("aten.linalg_lstsq")
def _least_squares(call: Call) -> int:
    """Count the operations of a least-squares solution, by QR or by SVD."""
    matrix = call.tensor("self")
    m, n = _tall(matrix)
    solution = call.first_output
    count = matrix.shape[:-2].numel()
    sides = solution.numel() // max(count * matrix.shape[-1], 1)
    if call["driver"] in _BY_SVD:
        # the SVD, and two products with the right-hand sides
        cost = 4 * m * n**2 + 8 * n**3 + 2 * (m + n) * n * sides
    else:
        # QR, Qᵀ times the right-hand sides, and a triangular solve; for m < n, the QR of the transpose
        cost = _qr(m, n) + (4 * m * n - 2 * n**2) * sides + n**2 * sides
    return _matrices(matrix) * cost


#: Number of matrix products in the Taylor polynomial of degree 18, which PyTorch uses unless the norm is small (Bader,
#: Blanes and Casas, "Computing the matrix exponential with an optimized Taylor polynomial approximation", 2019).
#: PyTorch also squares the result. The number of squarings depends on the norm, and so on data, so they are not
#: counted.
_EXPONENTIAL_PRODUCTS = 5


#: Name of an operator on square matrices (…, n, n) whose cost is a multiple of n³ → this multiple.
_CUBIC = {
    "aten.cholesky": Fraction(1, 3),
    "aten.linalg_cholesky_ex": Fraction(1, 3),
    "aten.linalg_ldl_factor_ex": Fraction(1, 3),
    "aten.cholesky_inverse": Fraction(2, 3),
    "aten.linalg_inv_ex": Fraction(2),
    "aten.linalg_eig": Fraction(25),
    "aten._linalg_eigvals": Fraction(10),
    "aten.linalg_matrix_exp": Fraction(2 * _EXPONENTIAL_PRODUCTS),
    "aten.linalg_matrix_sqrth": Fraction(9 + 2),
}


@other_formula(*_CUBIC)
def _cubic(call: Call) -> int:
    matrix = call.tensor("self", "A")
    return _matrices(matrix) * int(_CUBIC[call.name] * matrix.shape[-1] ** 3)
