import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from crossview.data.streets.__main__ import CONFIG_DIR
from crossview.data.streets.settings import StreetSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"street": 3}, "unknown settings.*street"),  # a misspelled key
        ({"streets": 2}, "streets=2"),  # no street left for one of the splits
        ({"streets": 20.5}, "streets=20.5 is not a whole number"),
        ({"streets": "20"}, "streets='20'"),  # text where a number is meant
        ({"streets": True}, "streets=True"),  # a bool is no number
        ({"width": 1023}, "width=1023 is not a multiple of 4"),
        ({"step_min_m": 14.0}, "step_min_m=14.0 is larger"),
        ({"gps_sigma_m": -1.0}, "gps_sigma_m=-1.0"),
        ({"yaw_sigma_deg": float("nan")}, "yaw_sigma_deg=nan"),  # compares false with everything
        ({"min_visible": 0.5}, "min_visible=0.5 is larger"),  # nothing could be difficult
        ({"class_name": " "}, "class_name"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave"),  # no training street
    ],
)
def test_bad_settings_name_the_key_and_the_value(values, message):
    with pytest.raises(ValueError, match=message):
        StreetSettings.from_mapping(values)


def test_config_file_holds_exactly_the_defaults():
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = OmegaConf.to_container(compose("streets"))
    assert isinstance(config, dict)
    assert (config.pop("out"), config.pop("workers")) == (None, None)
    assert StreetSettings.from_mapping({str(key): value for key, value in config.items()}) == StreetSettings()


def test_whole_numbers_serve_as_floats():
    assert StreetSettings.from_mapping({"gps_sigma_m": 1}) == StreetSettings(gps_sigma_m=1.0)


def test_digest_changes_with_every_kind_of_setting():
    digests = {
        StreetSettings(**change).digest() for change in ({}, {"seed": 1}, {"width": 1024}, {"class_name": "palm"})
    }
    assert len(digests) == 4
    assert StreetSettings().digest() == StreetSettings().digest()
