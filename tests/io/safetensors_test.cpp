#include "graft/io/safetensors.h"

#include <fmt/format.h>

#include "graft/io/npy.h"

#include "io/samples.h"
#include "support/expect.h"

namespace graft::io {
namespace {

constexpr DType kAll[] = {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64, DType::u8};

std::string safetensors(const std::string& header, std::string_view data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data);
}

Safetensors every_type() {
  Safetensors content{{}, {{"graph", "{\"a\": \"\u00e4\"}"}}};
  for (const DType dtype : kAll) content.tensors.emplace_back(name(dtype), counting(dtype));
  return content;
}

TEST(Safetensors, RoundTripKeepsEverything) {
  const TemporaryFolder folder;
  Safetensors content = every_type();
  content.tensors.emplace_back("scalar", Tensor::full({}, 7));
  content.tensors.emplace_back("empty", Tensor::zeros({0, 3}));
  write_safetensors(folder / "a.safetensors", content);
  const Safetensors back = read_safetensors(folder / "a.safetensors");
  EXPECT_EQ(back.metadata, content.metadata);
  ASSERT_EQ(back.tensors.size(), content.tensors.size());
  for (const auto& [name, tensor] : content.tensors) {
    EXPECT_EQ(back.at(name).spec(), tensor.spec()) << name;
    EXPECT_EQ(bytes_of(back.at(name)), bytes_of(tensor)) << name;
  }
  EXPECT_TRUE(back.contains("scalar"));
  EXPECT_FALSE(back.contains("absent"));
  EXPECT_ERROR(back.at("absent"), "there is no tensor 'absent'");
}

TEST(Safetensors, TensorsOfOneTypeKeepTheirOrderAndAllAreAligned) {
  const TemporaryFolder folder;
  const Tensor a = Tensor::zeros({5});
  write_safetensors(
      folder / "a.safetensors",
      {{{"z", a}, {"u", Tensor::zeros({3}, DType::u8)}, {"a", a}, {"m", a}, {"d", a.to(DType::f64)}}, {}});
  const SafetensorsHeader header = read_safetensors_header(folder / "a.safetensors");
  std::string order;
  for (const auto& entry : header.tensors) {
    order += entry.name;
    EXPECT_EQ(entry.offset % size_of(entry.spec.dtype), 0u) << entry.name;
  }
  EXPECT_EQ(order, "dzamu");
  EXPECT_EQ(header.tensors[0].offset % 64, 0u);
}

TEST(Safetensors, RowsComeInAnyOrder) {
  const TemporaryFolder folder;
  Tensor wide = Tensor::empty({5, 2}), narrow = Tensor::empty({5}, DType::u8);
  for (Index i = 0; i < 10; ++i) wide.mutable_data<float>()[i] = static_cast<float>(i);
  for (Index i = 0; i < 5; ++i) narrow.mutable_data<std::uint8_t>()[i] = static_cast<std::uint8_t>(i);
  const SafetensorsHeader header{.tensors = {{"narrow", narrow.spec()}, {"wide", wide.spec()}},
                                 .metadata = {{"a", "b"}}};
  write_safetensors(folder / "rows.safetensors", header, [&](const PutRows& put) {
    for (const auto& [first, count] : {std::pair<Index, Index>{3, 2}, {0, 3}}) {
      put(0, first, narrow.rows(first, count));
      put(1, first, wide.rows(first, count));
    }
  });
  write_safetensors(folder / "whole.safetensors", {{{"narrow", narrow}, {"wide", wide}}, {{"a", "b"}}});
  EXPECT_EQ(read_text(folder / "rows.safetensors"), read_text(folder / "whole.safetensors"));

  const auto put_one = [&](Index first, const Tensor& rows) {
    write_safetensors(folder / "bad.safetensors", header, [&](const PutRows& put) { put(1, first, rows); });
  };
  EXPECT_ERROR(put_one(0, wide), "expected 45 bytes of rows, got 40");
  EXPECT_ERROR(put_one(1, wide), "from 1 on do not lie in 'wide', [5, 2]");
  EXPECT_ERROR(put_one(0, narrow), "do not lie in 'wide'");
  EXPECT_FALSE(std::filesystem::exists(folder / "bad.safetensors"));
}

TEST(Safetensors, WritesNothingThatCannotBeReadBack) {
  const TemporaryFolder folder;
  const Tensor a = Tensor::zeros({1});
  EXPECT_ERROR(write_safetensors(folder / "a", {{{"a", a}, {"a", a}}, {}}),
               "the name 'a' cannot be used for a tensor twice or at all");
  EXPECT_ERROR(write_safetensors(folder / "a", {{{"__metadata__", a}}, {}}), "'__metadata__' cannot be used");
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
}

TEST(Safetensors, RefusesWithTheReason) {
  const TemporaryFolder folder;
  const auto one = [](const char* dtype, const char* shape, const char* range) {
    return fmt::format(R"({{"a": {{"dtype": {}, "shape": {}, "data_offsets": {}}}}})", dtype, shape, range);
  };
  for (
      const auto& [content, message] : std::vector<std::pair<std::string, std::string>>{
          {"", "the file is empty"},
          {"version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer"},
          {"abc", "expected at least 8 bytes, got 3"},
          {std::string(8, '\xff'), "with a header of at most 100000000 bytes"},
          {std::string("\x40\0\0\0\0\0\0\0{}", 10), "the header says it has 64 bytes, the file has 10"},
          {safetensors("[]", ""), "the header is not a JSON object"},
          {safetensors("{\"a\": ", ""), "the header is not a JSON object"},
          {safetensors(std::string(100000, '['), ""), "the header is not a JSON object"},
          {safetensors(R"({"a": 1})", ""), "tensor 'a': expected dtype, shape and data_offsets"},
          {safetensors(one("\"F8_E4M3\"", "[1]", "[0, 1]"), "x"),
           "expected F32, F64, BF16, F16, I32, I64 or U8, got 'F8_E4M3'"},
          {safetensors(one("4", "[1]", "[0, 1]"), "x"), "dtype is not a string"},
          {safetensors(one("\"U8\"", "[-1]", "[0, 1]"), "x"), "an extent is no size"},
          {safetensors(one("\"U8\"", "[1.5]", "[0, 1]"), "x"), "an extent is no size"},
          {safetensors(one("\"U8\"", "3", "[0, 1]"), "x"), "shape is not a list"},
          {safetensors(one("\"U8\"", "[1]", "[0]"), "x"), "data_offsets are not two offsets"},
          {safetensors(one("\"U8\"", "[2]", "[0, 2]"), "x"), "bytes 0 to 2 do not lie in the file's 1 bytes of data"},
          {safetensors(one("\"U8\"", "[1]", "[1, 0]"), "x"), "bytes 1 to 0 do not lie"},
          {safetensors(one("\"F32\"", "[2]", "[0, 4]"), "abcd"), "f32 [2] does not take the 4 bytes it is given"},
          {safetensors(one("\"F64\"", "[2305843009213693952]", "[0, 0]"), ""), "does not take the 0 bytes"},
          {safetensors(one("\"U8\"", "[9223372036854775807, 2]", "[0, 2]"), "ab"), "more elements than can be counted"},
          {safetensors(one("\"U8\"", "[1]", "[1, 2]"), "ab"), "starts at byte 1 of the data, expected 0"},
          {safetensors(one("\"U8\"", "[1]", "[0, 1]"), "ab"), "the tensors take 1 bytes, the file has 2"},
          {safetensors(
               R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}})",
               "abc"),
           "tensor 'b' starts at byte 1 of the data, expected 2"},
          {safetensors(R"({"__metadata__": {"a": 1}})", ""), "metadata 'a' is not a string"},
          {safetensors(R"({"__metadata__": 1})", ""), "the metadata is not a JSON object"},
      }) {
    write_text(folder / "a.safetensors", content);
    EXPECT_ERROR(read_safetensors(folder / "a.safetensors"), message);
  }
}

TEST(Safetensors, PythonReadsWhatGraftWrites) {
  const auto samples = oracle_samples();
  GRAFT_SKIP_WITHOUT_ORACLE(samples);
  write_safetensors(*samples / "written.safetensors", every_type());
  for (const DType dtype : kAll) {
    if (dtype != DType::bf16) write_npy(*samples / fmt::format("written_{}.npy", name(dtype)), counting(dtype));
  }
  EXPECT_TRUE(run_oracle(fmt::format("'{}' --check", samples->string())));
}

}  // namespace
}  // namespace graft::io
