"""Look at the built site in Chromium, before a release: widths at 360 pixels, accessibility, and the search.

Build the site from scratch before: an incremental build loses the keywords of the pages that it keeps. The checks need
Chromium, its driver and ``pip install selenium``; that of accessibility needs the file ``axe.min.js`` of the npm package
axe-core::

    python docs/browser_checks.py --axe node_modules/axe-core/axe.min.js
"""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

HERE = Path(__file__).resolve().parent
BUILT = HERE / "_build" / "html"
# One of each kind for axe; widths are looked at on every page.
KINDS = [
    "index", "install", "start", "guide/index", "guide/which_model", "guide/variance", "guide/pipelines", "guide/warnings",
    "coming_from/lme4", "theory/criterion", "teach", "glossary", "measured", "develop/architecture", "api/index",
    "api/generated/sklearn_mlm.RandomInterceptRegressor", "auto_examples/index",
    "auto_examples/1_first_steps/first_multilevel_model", "genindex",
]  # fmt: skip

# Elements of the article that reach beyond the page, unless something that scrolls by itself holds them.
TOO_WIDE = """
const scrolls = (element) => {
  for (let each = element; each && each.tagName !== "ARTICLE"; each = each.parentElement) {
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(each).overflowX)) return true;
  }
  return false;
};
return [...document.querySelectorAll("article *")]
  .filter((element) => element.getBoundingClientRect().right > window.innerWidth + 1 && !scrolls(element.parentElement))
  .map((element) => `${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 40)}`);
"""


def browser():
    """Return a headless Chromium that talks to nobody."""
    options = webdriver.ChromeOptions()
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{argument}")
    # The driver is named, because Selenium would otherwise look for one on the network.
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def resize(driver, width):
    """Give the page so many pixels."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def widths(driver):
    """Print what is wider than a phone, and return the number of such pages."""
    resize(driver, 360)
    pages = sorted(path for path in BUILT.rglob("*.html") if "_static" not in path.parts and path.name != "search.html")
    wide = 0
    for page in pages:
        driver.get(page.as_uri())
        if found := driver.execute_script(TOO_WIDE):
            wide += 1
            print(f"  {page.relative_to(BUILT)}: {found[0]!r} and {len(found) - 1} more")
    print(f"360 pixels: {wide} of {len(pages)} pages are too wide")
    return wide


def accessibility(driver, axe):
    """Print the violations of WCAG 2.1 AA, in light and in dark, and return their number."""
    resize(driver, 1280)
    run = (
        "const done = arguments[0];"
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).then((found) => done(found.violations));"
    )
    nodes = Counter()
    for name in KINDS:
        for theme in ("light", "dark"):
            driver.get((BUILT / f"{name}.html").as_uri())
            driver.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
            driver.execute_script(axe)
            time.sleep(0.3)  # colours fade in
            for violation in driver.execute_async_script(run):
                nodes[violation["id"]] += len(violation["nodes"])
                print(f"  {name}, {theme}: {violation['id']}: {violation['nodes'][0]['html'][:150]}")
    print(f"axe: {sum(nodes.values())} violations on {len(KINDS)} pages in two themes {dict(nodes)}")
    return sum(nodes.values())


def is_finished(driver):
    """Return whether the search has found all, or nothing."""
    text = driver.find_element(By.ID, "search-results").text
    return "finished" in text or "did not match" in text


def search(driver):
    """Print the rank of the page that each query should find, and return how many are not among the first three."""
    resize(driver, 1280)
    ranks = []
    queries = json.loads((HERE / "search_queries.json").read_text(encoding="utf-8"))
    for query, page in queries:
        driver.get(f"{(BUILT / 'search.html').as_uri()}?q={query.replace(' ', '+')}")
        WebDriverWait(driver, 20).until(is_finished)
        links = [link.get_attribute("href") for link in driver.find_elements(By.CSS_SELECTOR, "ul.search li > a")]
        pages = [link.partition("#")[0].partition("?")[0] for link in links]
        places = [at for at, found in enumerate(pages, 1) if found.endswith(f"/{page}.html")]
        ranks.append(places[0] if places else None)
        if ranks[-1] is None or ranks[-1] > 3:
            print(f"  {query!r}: {page} is number {ranks[-1]} of {len(links)}")
    late = sum(rank is None or rank > 3 for rank in ranks)
    print(f"search: of {len(queries)} pages {ranks.count(1)} come first, {len(queries) - late} among the first three")
    return late


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Look at the built site in Chromium.")
    parser.add_argument("--axe", type=Path, help="the file axe.min.js; without it, accessibility is not checked")
    options = parser.parse_args()
    driver = browser()
    try:
        found = widths(driver)
        if options.axe:
            found += accessibility(driver, options.axe.read_text(encoding="utf-8"))
        found += max(0, search(driver) - 5)  # with more than five late pages, another search engine is worth its cost
    finally:
        driver.quit()
    sys.exit(found > 0)
