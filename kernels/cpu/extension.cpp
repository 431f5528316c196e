// The OpenVINO operations. They are evaluated by the CPU plugin, in its own threads; constants are not copied there.
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/op/op.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "api.h"
#include "dispatch.h"
#include "linear.h"

namespace ovgen {
namespace {

constexpr const char* kFormats[] = {"int4", "int8", "f16", "bf16", "f32"};  // in the order of Format
constexpr const char* kActivations[] = {"none", "relu", "gelu_tanh", "gelu_erf", "silu"};  // in the order of Activation

template <size_t Count>
int32_t index_of(const char* const (&names)[Count], const std::string& name) {  // -1: none
    const auto* found = std::find(names, names + Count, name);
    return found == names + Count ? -1 : static_cast<int32_t>(found - names);
}

// What both operations are told about the packed matrix that is their second input.
class Packed : public ov::op::Op {
public:
    using Op::Op;

    bool visit_attributes(ov::AttributeVisitor& visitor) override {
        visitor.on_attribute("format", format_);
        visitor.on_attribute("columns", columns_);
        visitor.on_attribute("group", group_);
        visitor.on_attribute("rows", rows_);
        visitor.on_attribute("zero_points", zero_points_);
        visitor.on_attribute("bias", bias_);
        visitor.on_attribute("gated", gated_);
        visitor.on_attribute("activation", activation_);
        return true;
    }

    bool has_evaluate() const override { return true; }

protected:
    // Read the attributes, and hold the packed matrix against them.
    void settle() {
        const auto count = static_cast<int64_t>(rows_.size());
        shape_ = {};
        shape_.format = index_of(kFormats, format_);
        shape_.activation = index_of(kActivations, activation_);
        OPENVINO_ASSERT(shape_.format >= 0, "ovgen: no format ", format_);
        OPENVINO_ASSERT(shape_.activation >= 0, "ovgen: no activation ", activation_);
        OPENVINO_ASSERT(columns_ > 0 && group_ > 0 && columns_ % group_ == 0 &&
                            (has_codes(shape_) || group_ == columns_) && count >= 1 && count <= kMostProjections,
                        "ovgen: attributes of a packed matrix that cannot be");
        for (int64_t rows : rows_) OPENVINO_ASSERT(rows > 0, "ovgen: a projection without rows");
        OPENVINO_ASSERT(!gated_ || (count == 2 && rows_[0] == rows_[1]), "ovgen: a gate takes two projections of a size");
        shape_.columns = columns_;
        shape_.group = group_;
        for (int64_t i = 0; i < count; i++) shape_.rows[i] = rows_[i];
        shape_.zero_points = zero_points_;
        shape_.bias = bias_;
        shape_.gated = gated_;
        OPENVINO_ASSERT(get_input_element_type(1) == ov::element::u8 &&
                            get_input_partial_shape(1).compatible(ov::PartialShape{Layout(shape_).bytes}),
                        "ovgen: a packed matrix of another size than its attributes say");
    }

    void copy_attributes(const Packed& other) {
        format_ = other.format_;
        columns_ = other.columns_;
        group_ = other.group_;
        rows_ = other.rows_;
        zero_points_ = other.zero_points_;
        bias_ = other.bias_;
        gated_ = other.gated_;
        activation_ = other.activation_;
    }

    void check(const ov::Tensor& packed) const {
        OPENVINO_ASSERT(static_cast<int64_t>(packed.get_byte_size()) == Layout(shape_).bytes,
                        "ovgen: a packed matrix of another size than its attributes say");
    }

    OvgenShape shape_{};

private:
    std::string format_ = "int8";
    int64_t columns_ = 0, group_ = 0;
    std::vector<int64_t> rows_;
    bool zero_points_ = false, bias_ = false, gated_ = false;
    std::string activation_ = "none";
};

// x (..., columns) float32 -> (..., rows) float32 for each projection, or one result if gated.
class PackedLinear : public Packed {
public:
    OPENVINO_OP("PackedLinear", "ovgen");
    PackedLinear() = default;
    PackedLinear(const ov::OutputVector& inputs, const PackedLinear& other) : Packed(inputs) {
        copy_attributes(other);
        constructor_validate_and_infer_types();
    }

    void validate_and_infer_types() override {
        settle();
        ov::PartialShape shape = get_input_partial_shape(0);
        OPENVINO_ASSERT(get_input_element_type(0).compatible(ov::element::f32), "ovgen: activations must be float32");
        if (shape.rank().is_static()) {
            OPENVINO_ASSERT(shape.size() > 0 && shape[shape.size() - 1].compatible(shape_.columns),
                            "ovgen: activations of another length than the matrix");
        }
        for (size_t i = 0; i < results(); i++) {
            if (shape.rank().is_static()) shape[shape.size() - 1] = shape_.rows[i];
            set_output_type(i, ov::element::f32, shape);
        }
    }

    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
        return std::make_shared<PackedLinear>(inputs, *this);
    }

    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        check(inputs[1]);
        ov::Shape shape = inputs[0].get_shape();
        OPENVINO_ASSERT(!shape.empty() && static_cast<int64_t>(shape.back()) == shape_.columns,
                        "ovgen: activations of another length than the matrix");
        float* at[kMostProjections] = {};
        for (size_t i = 0; i < results(); i++) {
            shape.back() = shape_.rows[i];
            outputs[i].set_shape(shape);
            at[i] = outputs[i].data<float>();
        }
        const auto tokens = static_cast<int64_t>(inputs[0].get_size()) / shape_.columns;
        linear(current_kernels(), shape_, inputs[1].data<const uint8_t>(), inputs[0].data<const float>(), tokens, at, 0);
        return true;
    }

private:
    size_t results() const {
        size_t count = 0;
        while (count < kMostProjections && shape_.rows[count] != 0) count++;
        return shape_.gated ? 1 : count;
    }
};

// Rows of the matrix: ids (...) int32 or int64 -> (..., columns) float32.
class PackedEmbedding : public Packed {
public:
    OPENVINO_OP("PackedEmbedding", "ovgen");
    PackedEmbedding() = default;
    PackedEmbedding(const ov::OutputVector& inputs, const PackedEmbedding& other) : Packed(inputs) {
        copy_attributes(other);
        constructor_validate_and_infer_types();
    }

    void validate_and_infer_types() override {
        settle();
        const ov::element::Type type = get_input_element_type(0);
        OPENVINO_ASSERT(type == ov::element::i64 || type == ov::element::i32, "ovgen: ids must be int32 or int64");
        ov::PartialShape shape = get_input_partial_shape(0);
        if (shape.rank().is_static()) shape.push_back(shape_.columns);
        set_output_type(0, ov::element::f32, shape);
    }

    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
        return std::make_shared<PackedEmbedding>(inputs, *this);
    }

    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        check(inputs[1]);
        ov::Shape shape = inputs[0].get_shape();
        shape.push_back(shape_.columns);
        outputs[0].set_shape(shape);
        const auto count = static_cast<int64_t>(inputs[0].get_size());
        const auto* packed = inputs[1].data<const uint8_t>();
        auto* out = outputs[0].data<float>();
        if (inputs[0].get_element_type() == ov::element::i64) {
            ovgen_embedding(&shape_, packed, inputs[0].data<const int64_t>(), count, out);
        } else {
            const auto* ids = inputs[0].data<const int32_t>();
            const std::vector<int64_t> wide(ids, ids + count);
            ovgen_embedding(&shape_, packed, wide.data(), count, out);
        }
        return true;
    }
};

}  // namespace
}  // namespace ovgen

OPENVINO_CREATE_EXTENSIONS(std::vector<ov::Extension::Ptr>({
    std::make_shared<ov::OpExtension<ovgen::PackedLinear>>(),
    std::make_shared<ov::OpExtension<ovgen::PackedEmbedding>>(),
}));
