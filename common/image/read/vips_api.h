/* libvips, loaded when it is first needed: linking it brings 107 libraries along, which cost 20 ms
 * of every start (measured), and ordinary JPEGs never need it. Nothing of this program is linked to
 * libvips or GLib: the names below, used as always, stand for pointers that image_vips_start fills.
 * A name missing in the first list does not compile, one missing in the second does not link. */
#pragma once

#include "base/error.h"

#include <vips/vips.h>

/* clang-format off */
#define VIPS_FUNCTIONS(X) \
    X(g_free) X(g_log_set_handler) X(g_object_get) X(g_object_set) X(g_object_unref) \
    X(g_signal_connect_data) X(g_type_check_instance_cast) X(vips_area_unref) \
    X(vips_array_double_new) X(vips_bandjoin2) X(vips_blob_new) X(vips_block_untrusted_set) \
    X(vips_cache_operation_buildp) X(vips_cache_set_max) X(vips_cast) X(vips_cast_uchar) X(vips_colourspace) \
    X(vips_concurrency_set) X(vips_copy) X(vips_error_clear) \
    X(vips_extract_band) X(vips_flatten) X(vips_format_sizeof_unsafe) X(vips_heifsave_buffer) \
    X(vips_icc_export) X(vips_image_generate) X(vips_image_get_blob) X(vips_image_get_n_pages) \
    X(vips_image_get_orientation) X(vips_image_get_typeof) \
    X(vips_image_hasalpha) X(vips_image_init_fields) X(vips_image_new) \
    X(vips_image_new_from_memory) X(vips_image_new_memory) X(vips_image_pio_input) \
    X(vips_image_pipelinev) X(vips_image_remove) X(vips_image_set_blob_copy) \
    X(vips_image_set_kill) X(vips_image_set_progress) \
    X(vips_image_write_prepare) X(vips_linear) X(vips_msb) X(vips_object_get_type) X(vips_object_local_cb) \
    X(vips_object_unref_outputs) X(vips_operation_new) X(vips_pngsave_buffer) X(vips_profile_load) \
    X(vips_region_new) X(vips_region_prepare) X(vips_shrink) X(vips_shutdown) X(vips_start_one) \
    X(vips_stop_one) X(vips_thread_shutdown) \
    X(vips_type_find) X(vips_unpremultiply) X(vips_webpsave_buffer) X(vips_init) X(vips_version)

struct vips_api { /* with a _, since without it the names are macros */
#define MEMBER(name) __typeof__(name) *name##_;
    VIPS_FUNCTIONS(MEMBER)
#undef MEMBER
};
extern struct vips_api image_vips;

#undef g_free /* a macro in newer GLib */
#define g_free image_vips.g_free_
#define g_log_set_handler image_vips.g_log_set_handler_
#define g_object_get image_vips.g_object_get_
#define g_object_set image_vips.g_object_set_
#define g_object_unref image_vips.g_object_unref_
#define g_signal_connect_data image_vips.g_signal_connect_data_
#define g_type_check_instance_cast image_vips.g_type_check_instance_cast_
#define vips_area_unref image_vips.vips_area_unref_
#define vips_array_double_new image_vips.vips_array_double_new_
#define vips_bandjoin2 image_vips.vips_bandjoin2_
#define vips_blob_new image_vips.vips_blob_new_
#define vips_block_untrusted_set image_vips.vips_block_untrusted_set_
#define vips_cache_operation_buildp image_vips.vips_cache_operation_buildp_
#define vips_cache_set_max image_vips.vips_cache_set_max_
#define vips_cast image_vips.vips_cast_
#define vips_cast_uchar image_vips.vips_cast_uchar_
#define vips_colourspace image_vips.vips_colourspace_
#define vips_concurrency_set image_vips.vips_concurrency_set_
#define vips_copy image_vips.vips_copy_
#define vips_error_clear image_vips.vips_error_clear_
#define vips_extract_band image_vips.vips_extract_band_
#define vips_flatten image_vips.vips_flatten_
#define vips_format_sizeof_unsafe image_vips.vips_format_sizeof_unsafe_
#define vips_heifsave_buffer image_vips.vips_heifsave_buffer_
#define vips_icc_export image_vips.vips_icc_export_
#define vips_image_generate image_vips.vips_image_generate_
#define vips_image_get_blob image_vips.vips_image_get_blob_
#define vips_image_get_n_pages image_vips.vips_image_get_n_pages_
#define vips_image_get_orientation image_vips.vips_image_get_orientation_
#define vips_image_get_typeof image_vips.vips_image_get_typeof_
#define vips_image_hasalpha image_vips.vips_image_hasalpha_
#define vips_image_init_fields image_vips.vips_image_init_fields_
#define vips_image_new image_vips.vips_image_new_
#define vips_image_new_from_memory image_vips.vips_image_new_from_memory_
#define vips_image_new_memory image_vips.vips_image_new_memory_
#define vips_image_pio_input image_vips.vips_image_pio_input_
#define vips_image_pipelinev image_vips.vips_image_pipelinev_
#define vips_image_remove image_vips.vips_image_remove_
#define vips_image_set_blob_copy image_vips.vips_image_set_blob_copy_
#define vips_image_set_kill image_vips.vips_image_set_kill_
#define vips_image_set_progress image_vips.vips_image_set_progress_
#define vips_image_write_prepare image_vips.vips_image_write_prepare_
#define vips_linear image_vips.vips_linear_
#define vips_msb image_vips.vips_msb_
#define vips_object_get_type image_vips.vips_object_get_type_
#define vips_object_local_cb image_vips.vips_object_local_cb_
#define vips_object_unref_outputs image_vips.vips_object_unref_outputs_
#define vips_operation_new image_vips.vips_operation_new_
#define vips_pngsave_buffer image_vips.vips_pngsave_buffer_
#define vips_profile_load image_vips.vips_profile_load_
#define vips_region_new image_vips.vips_region_new_
#define vips_region_prepare image_vips.vips_region_prepare_
#define vips_shrink image_vips.vips_shrink_
#define vips_shutdown image_vips.vips_shutdown_
#define vips_start_one image_vips.vips_start_one_
#define vips_stop_one image_vips.vips_stop_one_
#define vips_thread_shutdown image_vips.vips_thread_shutdown_
#define vips_type_find image_vips.vips_type_find_
#define vips_unpremultiply image_vips.vips_unpremultiply_
#define vips_webpsave_buffer image_vips.vips_webpsave_buffer_
#define vips_init image_vips.vips_init_
#define vips_version image_vips.vips_version_
/* clang-format on */

/* Load libvips unless it is loaded. To be called before any of the above; thread-safe.
 * ERROR_INTERNAL when it cannot be loaded. */
bool image_vips_start(struct error *err) NODISCARD;
