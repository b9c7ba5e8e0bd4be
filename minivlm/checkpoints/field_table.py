"""What is done with each field that a checkpoint's small files may have: one literal table, by file and family.

177 used       it decides something; what cannot be done is refused by the code that reads it
67 refused     unless it has one of the values given: anything else asks for what minivlm does not do
31 said        a warning, unless it has one of the values given: the answer may be another, and the user can ask for it
344 harmless   it changes no answer, for the reason given

A field that is in no row gives a warning with its name and value (`fields.check_fields`). Names that begin with "_" are
notes of the program that wrote the file. Tests hold the table against the fields that transformers reads.
"""

from typing import Any

from minivlm.checkpoints.fields import Table, harmless, refused, said, used

# --- config.json ----------------------------------------------------------------------------------------------------

NOTHING: tuple[Any, ...] = (None, False, 0, "", (), {})
COMMON = {
    **used("model_type"),
    **harmless("dtype torch_dtype", "how it is rounded: the report names the dtype that is computed in"),
    **used("tie_word_embeddings"),
    **used("bos_token_id eos_token_id pad_token_id", "where there is no generation_config.json"),
    **refused("quantization_config", "a quantised copy: take the unquantised model and weights='int8'", None),
    **refused("per_layer_config", "all layers here are alike", None, {}),
    **refused("pruned_heads", "every layer here has all its heads", None, {}),
    **refused("is_encoder_decoder add_cross_attention", "the decoder here sees no encoder", *NOTHING),
    **harmless("architectures auto_map", "classes of other programs: the code here goes by the model types"),
    **harmless("transformers_version name_or_path", "a note of who wrote the file"),
    **harmless("id2label label2id num_labels problem_type finetuning_task task_specific_params", "of classifiers"),
    **harmless("output_hidden_states output_attentions return_dict torchscript", "what a call returns, not what it is"),
    **harmless("use_cache chunk_size_feed_forward pretraining_tp", "how it is computed; the results are the same"),
    **harmless("attn_implementation experts_implementation use_bfloat16 tf_legacy_loss", "how it is computed"),
    **harmless("attention_dropout dropout initializer_range initializer_factor", "of training"),
    **harmless("is_decoder cross_attention_hidden_size tie_encoder_decoder", "of models with an encoder of text"),
    **harmless("prefix sep_token_id tokenizer_class decoder_start_token_id", "no prompt here is made by it"),
}
HUB_TOP = {
    **COMMON,
    **used("text_config vision_config image_token_index image_token_id vision_feature_layer"),
    **used("vision_feature_select_strategy multimodal_projector_bias image_aspect_ratio"),
    **refused("projector_hidden_act", "the projector here has an exact GELU", "gelu", None),
    **refused("use_image_newline_parameter", "it belongs to LLaVA 1.6, which is not supported", *NOTHING),
    **harmless("image_seq_length", "the slots of a picture are counted from the tower's sizes"),
    **harmless("vocab_size", "the decoder's own (text_config) counts"),
    **harmless("ignore_index", "of training"),
}
ROPE = {
    **used("rope_type type rope_theta factor low_freq_factor high_freq_factor original_max_position_embeddings"),
    **refused("partial_rotary_factor", "whole heads rotate here", None, 1),
    **harmless("attention_factor mscale mscale_all_dim", "of kinds that are refused (yarn, longrope)"),
    **harmless("beta_fast beta_slow short_factor long_factor truncate", "of kinds that are refused (yarn, longrope)"),
}
TEXT = {
    **COMMON,
    **used("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads"),
    **used("head_dim max_position_embeddings rms_norm_eps rope_theta rope_scaling rope_parameters"),
    **refused("hidden_act", "the decoder here is gated with silu", "silu", None),
    **refused("partial_rotary_factor", "whole heads rotate here", None, 1),
    **refused("mlp_bias", "the decoder's MLP here has no bias", *NOTHING),
    **refused("tie_last_hidden_states", "only the last layer's normed output is read", None, True, False),
    **refused("layer_types", "each layer here sees all tokens", None, "full_attention", "sliding_attention"),
    **used("original_max_position_embeddings"),
}
LLAMA = {
    **TEXT,
    **used("attention_bias"),
    **harmless("sliding_window use_sliding_window", "transformers' llama sees all, too; the report says so"),
    **harmless("max_window_layers", "transformers' llama has no windows"),
    **harmless("max_sequence_length", "of the first LLaMA files; max_position_embeddings counts"),
}
MISTRAL = {
    **TEXT,
    **used("sliding_window", "longer prompts are refused"),
    **harmless("attention_bias", "transformers' mistral has none and reads none"),
    **harmless("use_sliding_window max_window_layers", "transformers' mistral does not read it"),
}
QWEN2 = {
    **TEXT,
    **used("sliding_window use_sliding_window", "longer prompts are refused"),
    **harmless("max_window_layers", "prompts longer than the window are refused, whatever layers have it"),
    **harmless("attention_bias", "transformers' qwen2 always has one on queries, keys and values alone"),
    **harmless("use_mrope", "of Qwen2-VL: pictures here are counted like words"),
}
TEXTS = {"llama": LLAMA, "mistral": MISTRAL, "qwen2": QWEN2}
TOWER = {
    **COMMON,
    **used("hidden_size intermediate_size num_hidden_layers num_attention_heads image_size patch_size"),
    **used("hidden_act layer_norm_eps"),
    **refused("num_channels", "pictures here have three channels", 3, None),
    **refused("tie_last_hidden_states", "the projector here gets the last layer's output before its norm", None, False),
    **harmless("projection_dim logit_scale_init_value", "of the comparison with texts, which LLaVA leaves out"),
    **harmless("vocab_size max_position_embeddings", "of the text tower, which LLaVA leaves out"),
    **harmless("vision_use_head", "the pooling behind the tower, which LLaVA leaves out"),
}
ORIGINAL = {
    **TEXTS["llama"],
    **TEXTS["mistral"],
    **used("mm_vision_tower mm_vision_select_layer mm_vision_select_feature image_aspect_ratio attention_bias"),
    **refused("mm_projector_type", "minivlm has the projector 'mlp2x_gelu'", "mlp2x_gelu"),
    **refused("mm_resampler_type", "minivlm has no resampler", *NOTHING),
    **refused("mm_use_im_start_end", "pictures here have no start and end tokens", *NOTHING),
    **refused("mm_patch_merge_type", "that of LLaVA 1.5 is 'flat'", None, "flat"),
    **refused("s2", "the tower here sees one size of a picture", *NOTHING),
    **harmless("s2_scales", "read only where s2 is true"),
    **harmless("image_grid_pinpoints image_crop_resolution image_split_resolution", "of LLaVA 1.6, which is refused"),
    **harmless("mm_hidden_size", "the tensors' shapes say it"),
    **harmless("mm_use_im_patch_token use_mm_proj", "of the tokenizer and the files before training"),
    **harmless("freeze_mm_mlp_adapter freeze_mm_vision_resampler tune_mm_mlp_adapter", "of training"),
    **harmless("tune_mm_vision_resampler unfreeze_mm_vision_tower mm_projector_lr mm_vision_tower_lr", "of training"),
    **harmless("tokenizer_model_max_length tokenizer_padding_side mm_tunable_parts", "of training"),
    **harmless("max_sequence_length", "of the first LLaMA files; max_position_embeddings counts"),
}

# --- generation_config.json; without that file, the same fields of config.json ----------------------------------------

GREEDY = "answers are greedy unless you ask for more: give it with the question"
GENERATION = {
    **used("bos_token_id eos_token_id pad_token_id"),
    **said("do_sample", f"{GREEDY}, as temperature=..., top_k=..., top_p=...", *NOTHING),
    **said("num_beams num_beam_groups num_return_sequences", "one answer is written, without beams", 1, None),
    **said("repetition_penalty encoder_repetition_penalty guidance_scale", "no logits are changed", 1, None),
    **said("no_repeat_ngram_size encoder_no_repeat_ngram_size", "no tokens are forbidden", *NOTHING),
    **said("bad_words_ids suppress_tokens begin_suppress_tokens", "no tokens are forbidden", *NOTHING, []),
    **said("sequence_bias exponential_decay_length_penalty watermarking_config", "no logits are changed", *NOTHING),
    **said("min_length min_new_tokens", "an answer ends where the model ends it", *NOTHING),
    **said("forced_bos_token_id forced_eos_token_id", "no tokens are forced", None),
    **said("force_words_ids constraints", "no tokens are forced", *NOTHING, []),
    **said("penalty_alpha dola_layers token_healing", "decoding is greedy or sampled", *NOTHING),
    **said("stop_strings", "give it with the question, as stop=...", *NOTHING, []),
    **said("max_time", "give max_new_tokens with the question", None),
    **said("prefill_chunk_size", "a prompt is computed at once", None, 0),
    **harmless("temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff", "read only with do_sample"),
    **harmless("length_penalty early_stopping diversity_penalty low_memory", "of beams, which are said"),
    **harmless("max_length max_new_tokens", "the question says it (max_new_tokens); an answer that is cut says so"),
    **harmless("use_cache cache_implementation cache_config max_cache_len", "how it is computed"),
    **harmless("compile_config disable_compile continuous_batching_config use_mtp", "how it is computed"),
    **harmless("renormalize_logits remove_invalid_values", "logits that are no numbers are an error here"),
    **harmless("output_attentions output_hidden_states output_scores output_logits", "what a call returns"),
    **harmless("return_dict_in_generate transformers_version", "what a call returns, and who wrote the file"),
    **harmless("decoder_start_token_id", "of models with an encoder of text"),
    **harmless("is_assistant num_assistant_tokens num_assistant_tokens_schedule", "of a helper: the same words"),
    **harmless("assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight", "of a helper"),
    **harmless("assistant_lookbehind target_lookbehind prompt_lookup_num_tokens", "of a helper: the same words"),
    **harmless("max_matching_ngram_size speculation_type", "of a helper: the words are the same"),
}
IN_CONFIG = harmless(
    " ".join(GENERATION.keys() - COMMON.keys()), "transformers takes it from generation_config.json, if there is one"
)

# --- the picture's and the prompt's files ---------------------------------------------------------------------------

PREPROCESSOR = {
    **used("image_processor_type feature_extractor_type size crop_size do_center_crop do_pad image_aspect_ratio"),
    **used("image_mean image_std do_resize do_rescale do_normalize resample rescale_factor"),
    **used("default_to_square", "whether a size that is one number is that of both sides"),
    **refused("use_square_size do_flip_channel_order", "not implemented", *NOTHING),
    **refused("data_format input_data_format", "pictures are read in three channels", None, "channels_first"),
    **refused("image_grid_pinpoints do_image_splitting", "pictures here are not cut into tiles", *NOTHING, []),
    **harmless("do_convert_rgb", "pictures are always brought to RGB"),
    **harmless("pad_size", "a picture is padded to its own square"),
    **harmless("processor_class auto_map", "classes of other programs"),
    **harmless("device return_tensors disable_grouping", "how it is computed"),
    **harmless("image_seq_length patch_size", "counted from the tower's sizes"),
}
PROCESSOR = {
    **used("image_processor chat_template"),
    **harmless("processor_class auto_map", "classes of other programs"),
    **harmless("patch_size num_additional_image_tokens", "config.json says how many slots a picture has"),
    **harmless("vision_feature_select_strategy image_seq_length", "config.json says how many slots a picture has"),
    **harmless("image_token image_token_id", "config.json has the id of the slots"),
}
SPECIALS = {
    **used("bos_token eos_token pad_token unk_token sep_token cls_token mask_token"),
    **used("additional_special_tokens extra_special_tokens"),
    **harmless("image_token", "config.json has the id of the slots"),
}
TOKENIZER_CONFIG = {
    **SPECIALS,
    **used("add_bos_token chat_template added_tokens_decoder tokenizer_class"),
    **said("add_eos_token", "no prompt here ends with the end of sequence", *NOTHING),
    **said("do_lower_case", "letters stay as they are unless tokenizer.json changes them", *NOTHING),
    **said("fix_mistral_regex", "tokenizer.json is read as it is", *NOTHING),
    **harmless("add_prefix_space legacy sp_model_kwargs", "tokenizer.json says how a text begins"),
    **used("image_token", "a word of tokenizer.json; config.json has the id of the slots"),
    **used("clean_up_tokenization_spaces", "said for tokenizers other than BPE: transformers 5 ignores it for those"),
    **said("split_special_tokens", "the special tokens of a template are tokens here", *NOTHING),
    **harmless("spaces_between_special_tokens", "answers hold no special tokens"),
    **harmless("errors vocab_file merges_file tokenizer_file", "tokenizer.json holds all of it"),
    **harmless("model_max_length max_length stride truncation_side truncation_strategy", "no prompt is cut"),
    **harmless("padding padding_side pad_to_multiple_of pad_token_type_id", "batches are padded on the left"),
    **harmless("model_input_names model_specific_special_tokens return_token_type_ids", "what a call returns"),
    **harmless("processor_class auto_map backend is_local local_files_only name_or_path", "of other programs"),
    **harmless("trust_remote_code use_fast use_default_system_prompt", "no code of a checkpoint is run"),
    **harmless("special_tokens_map_file response_schema", "of other programs"),
}
TOKENIZER = {
    **used("added_tokens normalizer pre_tokenizer decoder model post_processor"),
    **harmless("version", "the library `tokenizers` checks it"),
    **harmless("truncation padding", "no prompt is cut, and batches are padded on the left"),
}
TOKENIZER_MODEL = {
    **used("type vocab merges unk_token unk_id continuing_subword_prefix end_of_word_suffix fuse_unk byte_fallback"),
    **used("ignore_merges max_input_chars_per_word", "by the library `tokenizers`"),
    **refused("dropout", "it would split words by chance", None, 0),
}

FILES: dict[str, Table] = {  # of those whose fields do not depend on the family
    "generation_config.json": GENERATION,
    "preprocessor_config.json": PREPROCESSOR,
    "processor_config.json": PROCESSOR,
    "tokenizer_config.json": TOKENIZER_CONFIG,
    "special_tokens_map.json": SPECIALS,
    "tokenizer.json": TOKENIZER,
    "chat_template.json": used("chat_template"),
}
