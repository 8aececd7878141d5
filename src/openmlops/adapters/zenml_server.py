"""Health and login checks of a ZenML server over HTTP, without the slow import of ZenML. All else is in `pipelines`."""

import requests

from openmlops.errors import ServiceUnavailable

SECONDS = 5.0
REMEDY = "Start it, or correct ZENML_STORE_URL"


def version_of(url: str) -> str:
    """The version of the server at `url`. Raises ServiceUnavailable if it does not respond or is not a ZenML server."""
    try:
        response = requests.get(f"{url.rstrip('/')}/api/v1/info", timeout=SECONDS)
        response.raise_for_status()
        return str(response.json()["version"])
    except requests.RequestException as error:
        raise ServiceUnavailable(f"The ZenML server {url} did not respond ({type(error).__name__})", REMEDY) from None
    except (ValueError, KeyError, TypeError):
        raise ServiceUnavailable(f"{url} is not a ZenML server", REMEDY) from None


def log_in(url: str, user: str, password: str, api_key: str = "") -> None:
    """Check the credentials. Raises ServiceUnavailable if the server rejects them."""
    form = {"password": api_key} if api_key else {"username": user, "password": password}
    names = "ZENML_STORE_API_KEY" if api_key else "ZENML_STORE_USERNAME and ZENML_STORE_PASSWORD"
    try:
        response = requests.post(f"{url.rstrip('/')}/api/v1/login", data=form, timeout=SECONDS)
    except requests.RequestException as error:
        raise ServiceUnavailable(f"The ZenML server {url} did not respond ({type(error).__name__})", REMEDY) from None
    if not response.ok:
        raise ServiceUnavailable(f"The ZenML server {url} refused the login ({response.status_code})", f"Correct {names}")
