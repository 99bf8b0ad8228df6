/* The switch of light and dark, and the start of a page. */

const THEMES = ["auto", "light", "dark"], REMEMBERED = "quatrain-theme";

function remembered() {
  try { return localStorage.getItem(REMEMBERED); } catch { return null; } // a page from disk may have no storage
}

function setUpTheme() {
  const button = byId("theme");
  const set = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `colours: ${theme}`;
    try { localStorage.setItem(REMEMBERED, theme); } catch { /* then it is not remembered */ }
  };
  let theme = THEMES.includes(remembered()) ? remembered() : "auto";
  set(theme);
  button.hidden = false;
  button.addEventListener("click", () => set(theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]));
}

/** Unpack the data and set the page up with it; a browser that cannot says so. */
async function start(setUp) {
  setUpTheme();
  try {
    setUp(await unpack(byId("data").textContent));
    for (const tools of document.querySelectorAll(".tools")) tools.hidden = false;
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    byId("notice").textContent = `This browser cannot show the details of the page: ${error.message}. The tables are complete.`;
    byId("notice").hidden = false;
    console.error(error);
  }
}
