"""The page about Nova names what Nova asks, once each, and only what the contract declares."""

import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from federation.contract.capabilities import Capability
from federation.contract.errors import CATALOGUE
from federation.contract.operations import DECLARED

PAGE = Path(__file__).parents[2] / "docs/explanation/nova.md"
NOVAS_OTHER_WORDS = {"bad_volumes_callback", "post_method", "recover_method", "retry_interval", "update_task_state"}
ELSEWHERE = {"bridge", "later", "not asked"}
ASKED = {
    "lifecycle": """
        spawn rebuild prepare_for_spawn failed_spawn_cleanup destroy cleanup soft_delete restore rescue unrescue
        delete_instance_files cleanup_lingering_instance_resources instance_exists get_info
    """,
    "power": """
        power_on power_off reboot pause unpause suspend resume resume_state_on_host_boot trigger_crash_dump
        power_update_event poll_rebooting_instances
    """,
    "storage": """
        attach_volume detach_volume swap_volume extend_volume volume_snapshot_create volume_snapshot_delete
        get_volume_connector default_root_device_name default_device_names_for_instance
        get_device_name_for_instance get_all_volume_usage block_stats mount_share umount_share
    """,
    "network": """
        attach_interface detach_interface plug_vifs unplug_vifs inject_network_info
        prepare_networks_before_block_device_mapping clean_networks_preparation network_binding_host_id
        manages_network_binding_host_id
    """,
    "migration": """
        migrate_disk_and_power_off finish_migration confirm_migration finish_revert_migration pre_live_migration
        live_migration live_migration_force_complete live_migration_abort post_live_migration
        post_live_migration_at_source post_live_migration_at_destination rollback_live_migration_at_source
        rollback_live_migration_at_destination cleanup_live_migration_destination_check
        check_can_live_migrate_destination check_can_live_migrate_source check_source_migrate_data_at_dest
        post_claim_migrate_data check_instance_shared_storage_local check_instance_shared_storage_remote
        check_instance_shared_storage_cleanup get_instance_disk_info instance_on_disk
    """,
    "console": """
        get_console_output get_vnc_console get_spice_console get_serial_console get_mks_console
    """,
    "snapshot": """
        snapshot quiesce unquiesce
    """,
    "host": """
        init_host cleanup_host process_instances_at_startup get_available_nodes get_nodenames_by_uuid
        is_node_deleted get_host_uptime host_power_action host_maintenance_mode set_host_enabled list_instances
        list_instance_uuids get_num_instances manage_image_cache cache_image get_available_resource
        update_provider_tree capabilities_as_traits get_host_ip_addr node_is_available
    """,
    "misc": """
        set_admin_password get_diagnostics get_instance_diagnostics register_event_listener
    """,
}
"""What nova/compute/manager.py, the resource tracker and the block devices call on a driver in Nova 34.0.0, by group."""


def below(kind):
    for part in kind.__subclasses__():
        yield part
        yield from below(part)


def sections(page):
    """By the heading's word: the rows of its table, each as (method, carried by, words)."""
    found = {}
    for part in page.split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        found[heading.lower()] = re.findall(r"^\| `(\w+)` \| (.*?) \| ?(.*?) ?\|$", text, re.MULTILINE)
    return found


@pytest.mark.parametrize("group", ASKED)
def test_every_method_that_nova_calls_stands_once_in_its_group(group):
    told = Counter(method for method, _, _ in sections(PAGE.read_text())[group])
    assert told == Counter(ASKED[group].split())


def test_what_carries_a_method_is_declared_or_says_why_nothing_does():
    declared = {operation.name for operation in DECLARED}
    rows = [row for group in ASKED for row in sections(PAGE.read_text())[group]]
    wrong = [
        (method, word)
        for method, carried, _ in rows
        for word in carried.split(", ")
        if word not in ELSEWHERE and word.strip("`") not in declared
    ]
    assert wrong == []
    assert [method for method, carried, words in rows if carried in ELSEWHERE and not words] == []


def test_nearly_every_operation_carries_something_of_nova():
    rows = [row for group in ASKED for row in sections(PAGE.read_text())[group]]
    used = {word.strip("`") for _, carried, _ in rows for word in carried.split(", ")}
    unused = {operation.name for operation in DECLARED} - used
    assert unused == {"adopt", "create_snapshot", "revert_snapshot", "delete_snapshot", "list_snapshots"}


def test_what_the_page_names_is_of_the_contract_or_of_nova():
    contract = {operation.name for operation in DECLARED} | set(CATALOGUE) | {str(flag) for flag in Capability}
    contract |= {field for kind in below(msgspec.Struct) for field in kind.__struct_fields__}
    nova = {name for names in ASKED.values() for name in names.split()} | NOVAS_OTHER_WORDS
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE.read_text()))
    assert sorted(named - contract - nova) == []
