(() => {
  const shown = "PRINT";
  const root = "/__openclaw__/canvas/";
  const end = location.pathname.lastIndexOf(root);
  if (end < 0) return;
  const events = new EventSource(location.pathname.slice(0, end + root.length) + ".events");
  events.onmessage = ({ data }) => {
    if (data === shown) return;
    events.close();
    location.reload();
  };
})();
