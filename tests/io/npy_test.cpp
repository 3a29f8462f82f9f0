#include "graft/io/npy.h"

#include "io/samples.h"
#include "support/expect.h"

namespace graft::io {
namespace {

std::string npy(std::string header, std::string_view data, char version = 1) {
  const auto length = static_cast<char>(header.size());
  std::string file = std::string("\x93NUMPY") + version + '\0' + length + '\0';
  if (version == 2) file += std::string(2, '\0');
  return file + header + std::string(data);
}

TEST(Npy, RoundTripKeepsTypeShapeAndElements) {
  const TemporaryFolder folder;
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::i32, DType::i64, DType::u8}) {
    for (const Shape& shape : {Shape{2, 3}, Shape{6}, Shape{1, 2, 1, 3}}) {
      write_npy(folder / "a.npy", counting(dtype).reshaped(shape));
      const Tensor back = read_npy(folder / "a.npy");
      EXPECT_EQ(back.spec(), (Spec{shape, dtype}));
      EXPECT_EQ(bytes_of(back), bytes_of(counting(dtype)));
    }
  }
  write_npy(folder / "scalar.npy", Tensor::full({}, 7));
  EXPECT_EQ(read_npy(folder / "scalar.npy").item(), 7);
  write_npy(folder / "empty.npy", Tensor::zeros({0, 4}));
  EXPECT_EQ(read_npy(folder / "empty.npy").shape(), Shape({0, 4}));
  EXPECT_ERROR(write_npy(folder / "a.npy", counting(DType::bf16)), "NumPy has no bf16");
}

TEST(Npy, ReadsFormat2) {
  const TemporaryFolder folder;
  write_text(folder / "a.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", "abc", 2));
  EXPECT_EQ(bytes_of(read_npy(folder / "a.npy")), "abc");
}

TEST(Npy, RefusesWithTheReason) {
  const TemporaryFolder folder;
  for (const auto& [content, message] : std::vector<std::pair<std::string, std::string>>{
           {"", "expected at least 10 bytes, got 0"},
           {"PK\3\4 and more", "this is no NumPy array file"},
           {npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", std::string(16, ' ')),
            "expected C order, got Fortran order"},
           {npy("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "abcd"), "got '>f4'"},
           {npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "abcd"), "got '|O'"},
           {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "abcd"),
            "f32 [2] does not take the 4 bytes after the header"},
           {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "abcde"), "does not take the 5 bytes"},
           {npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", ""),
            "more elements than can be counted"},
           {npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,), }", ""),
            "does not take the 0 bytes"},
           {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", ""), "'-1' is no extent"},
           {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1), }", "abcd"),
            "at most 8 axes, got 9"},
           {npy("{'descr': '<f4', 'shape': (1,), }", "abcd"), "lacks descr, fortran_order or shape"},
           {npy("{'descr': '<f4', 'other': False}", ""), "unknown key 'other'"},
           {npy("{'descr", ""), "malformed, expected '''"},
           {npy("", ""), "malformed, expected '{'"},
           {npy("{}", "", 3), "expected format 1 or 2, got 3"},
           {std::string("\x93NUMPY\2\0\0\0\0\xff and more", 21), "expected a header of at most 65536 bytes"},
           {std::string("\x93NUMPY\1\0\xff\x7f{", 11), "lie beyond the end"},
       }) {
    write_text(folder / "a.npy", content);
    EXPECT_ERROR(read_npy(folder / "a.npy"), message);
  }
}

}  // namespace
}  // namespace graft::io
