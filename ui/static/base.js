// What all parts of the page share: making elements, talking to each other, keys, and the prompt.
window.medley = (() => {
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "style") Object.assign(node.style, value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };

  const tell = (name, detail) => window.dispatchEvent(new CustomEvent(`medley:${name}`, { detail }));
  const hear = (name, act) => window.addEventListener(`medley:${name}`, (event) => act(event.detail));

  const field = (id) => document.querySelector(`#${id} textarea, #${id} input`);

  const setField = (id, text) => {
    const box = field(id);
    if (!box) return;
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.dispatchEvent(new Event("change", { bubbles: true }));
    box.dispatchEvent(new Event("blur", { bubbles: true }));
  };

  const says = (text, words) => text.toLowerCase().includes(words.toLowerCase());

  // Words go where the cursor was, set off by commas.
  const insert = (words) => {
    const box = field("prompt");
    if (!box || says(box.value, words)) return;
    const at = document.activeElement === box ? box.selectionEnd : box.value.length;
    const before = box.value.slice(0, at).replace(/[\s,]+$/, "");
    const after = box.value.slice(at).replace(/^[\s,]+/, "");
    setField("prompt", [before, words, after].filter(Boolean).join(", "));
    tell("prompt", box.value);
  };

  const press = (id) => {
    const button = document.querySelector(`button#${id}, #${id} button`);
    if (button && !button.disabled && button.offsetParent !== null) button.click();
  };

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      event.preventDefault();
      if (event.target.blur) event.target.dispatchEvent(new Event("blur"));
      for (const id of ["render", "compare", "explain"]) press(id);
    } else if (event.key === "Escape") {
      for (const id of ["cancel", "compare_cancel", "explain_cancel"]) press(id);
    }
  });

  document.addEventListener("input", (event) => {
    if (event.target.closest?.("#prompt")) tell("prompt", event.target.value);
  });

  const chooseTheme = () => {
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem("medley-theme", dark ? "dark" : "light");
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#theme")) chooseTheme();
  });
  const remembered = localStorage.getItem("medley-theme");
  if (remembered) document.body.classList.toggle("dark", remembered === "dark");

  // A name that is too long for its place breaks where its words do.
  const parted = (name) => name.split(/(?<=[_.-])/).flatMap((part, n) => (n ? [make("wbr"), part] : [part]));

  return { make, parted, tell, hear, field, setField, says, insert, press, parts: {} };
})();
