// Provide and Register Document Set-b [ITI-41] with nothing but the JDK (17 or newer): SOAP 1.2 and MTOM by hand.
//
//     java examples/java/Submit.java http://127.0.0.1:8080/xds/repository 'ID^^^&OID&ISO' FILE
//
// Prints the uniqueId of the new document. Exit code: 0 registered, 1 refused. The metadata is the least that XDS asks for;
// its codes are among those of schemas/samples/affinity-domain.toml.

import java.io.ByteArrayInputStream;
import java.math.BigInteger;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.regex.Pattern;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Document;
import org.w3c.dom.Element;

public class Submit {
    static final String ACTION = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b";
    static final String OBJECT = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:";
    static final String ASSOCIATION = "urn:oasis:names:tc:ebxml-regrep:AssociationType:";
    static final String LOINC = "2.16.840.1.113883.6.1";
    static final String SNOMED_CT = "2.16.840.1.113883.6.96";

    public static void main(String[] arguments) throws Exception {
        String repository = arguments[0];
        String patientId = arguments[1];
        Path file = Path.of(arguments[2]);
        String mimeType = Objects.requireNonNullElse(Files.probeContentType(file), "application/octet-stream");
        String uniqueId = newOid();

        // The message: an envelope that names the document by its Content-ID, then the document's bytes as they are.
        String boundary = "toimik-" + UUID.randomUUID();
        String head = String.join("\r\n",
            "--" + boundary,
            "Content-Type: application/xop+xml; charset=UTF-8; type=\"application/soap+xml\"",
            "Content-Transfer-Encoding: binary",
            "Content-ID: <envelope@example.org>",
            "",
            envelope(repository, patientId, file.getFileName().toString(), mimeType, uniqueId),
            "--" + boundary,
            "Content-Type: " + mimeType,
            "Content-Transfer-Encoding: binary",
            "Content-ID: <document@example.org>",
            "", "");
        String tail = "\r\n--" + boundary + "--\r\n";
        HttpRequest request = HttpRequest.newBuilder(URI.create(repository))
            .header("Content-Type", "multipart/related; boundary=\"" + boundary + "\"; type=\"application/xop+xml\"; "
                + "start=\"<envelope@example.org>\"; start-info=\"application/soap+xml\"; action=\"" + ACTION + "\"")
            .POST(BodyPublishers.concat(
                BodyPublishers.ofString(head), BodyPublishers.ofFile(file), BodyPublishers.ofString(tail)))
            .build();
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        String answer = client.send(request, BodyHandlers.ofString(StandardCharsets.UTF_8)).body();

        System.exit(told(answer, uniqueId) ? 0 : 1);
    }

    /** Print what an answer says: Success, a Failure with its errors, or a SOAP fault. */
    static boolean told(String answer, String uniqueId) throws Exception {
        // An MTOM message is answered with one: the envelope is the part between the MIME headers and the last boundary.
        var envelope = Pattern.compile("(?s)<(\\w*:?)Envelope\\b.*</\\1Envelope>").matcher(answer);
        if (!envelope.find()) throw new IllegalStateException("no SOAP: " + answer);
        var factory = DocumentBuilderFactory.newInstance();
        factory.setNamespaceAware(true);
        factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
        Document xml = factory.newDocumentBuilder()
            .parse(new ByteArrayInputStream(envelope.group().getBytes(StandardCharsets.UTF_8)));
        var faults = xml.getElementsByTagNameNS("http://www.w3.org/2003/05/soap-envelope", "Text");
        if (faults.getLength() > 0) {
            System.out.println("Fault: " + faults.item(0).getTextContent());
            return false;
        }
        var errors = xml.getElementsByTagNameNS("urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0", "RegistryError");
        for (int index = 0; index < errors.getLength(); index++) {
            var error = (Element) errors.item(index);
            System.out.println(error.getAttribute("errorCode") + ": " + error.getAttribute("codeContext"));
        }
        var responses = xml.getElementsByTagNameNS("urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0", "RegistryResponse");
        String status = ((Element) responses.item(0)).getAttribute("status").replaceAll(".*:", "");
        boolean registered = status.equals("Success");
        System.out.println(status + (registered ? ": " + uniqueId : ""));
        return registered;
    }

    static String envelope(String to, String patientId, String title, String mimeType, String uniqueId) {
        String now = ZonedDateTime.now(ZoneOffset.UTC).format(DateTimeFormatter.ofPattern("yyyyMMddHHmmss"));
        return """
            <soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope" xmlns:wsa="http://www.w3.org/2005/08/addressing">
            <soap:Header>
            <wsa:To>%s</wsa:To>
            <wsa:Action soap:mustUnderstand="true">%s</wsa:Action>
            <wsa:MessageID>urn:uuid:%s</wsa:MessageID>
            <wsa:ReplyTo><wsa:Address>http://www.w3.org/2005/08/addressing/anonymous</wsa:Address></wsa:ReplyTo>
            </soap:Header>
            <soap:Body>
            <xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="urn:ihe:iti:xds-b:2007">
            <lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0">
            <RegistryObjectList xmlns="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">
            %s
            </RegistryObjectList>
            </lcm:SubmitObjectsRequest>
            <xdsb:Document id="Document01"><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" \
            href="cid:document@example.org"/></xdsb:Document>
            </xdsb:ProvideAndRegisterDocumentSetRequest>
            </soap:Body>
            </soap:Envelope>""".formatted(escaped(to), ACTION, UUID.randomUUID(), String.join("\n", List.of(
                documentEntry(patientId, title, mimeType, uniqueId, now), submissionSet(patientId, now), hasMember())));
    }

    /** ITI TF-3: 4.2.3.2. The repository adds size, hash and repositoryUniqueId. */
    static String documentEntry(String patientId, String title, String mimeType, String uniqueId, String now) {
        String of = "Document01";
        String start = """
            <ExtrinsicObject id="%s" mimeType="%s" objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1">"""
            .formatted(of, mimeType);
        return String.join("\n", start,
            slot("creationTime", now),
            slot("languageCode", "en-GB"),
            slot("sourcePatientId", patientId),
            name(title),
            code(of, "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a", "11506-3", LOINC, "Progress note"), // classCode
            code(of, "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983", "11506-3", LOINC, "Progress note"), // typeCode
            code(of, "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d", "urn:ihe:iti:xds:2017:mimeTypeSufficient",
                "1.3.6.1.4.1.19376.1.2.3", "mimeType sufficient"), // formatCode
            code(of, "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f", "N", "2.16.840.1.113883.5.25", "normal"),
            code(of, "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1", "22232009", SNOMED_CT, "Hospital"),
            code(of, "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead", "394802001", SNOMED_CT, "General medicine"),
            identifier(of, "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", "XDSDocumentEntry.patientId", patientId),
            identifier(of, "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab", "XDSDocumentEntry.uniqueId", uniqueId),
            "</ExtrinsicObject>");
    }

    /** ITI TF-3: 4.2.3.3. */
    static String submissionSet(String patientId, String now) {
        String of = "SubmissionSet01";
        return String.join("\n", "<RegistryPackage id=\"" + of + "\">",
            slot("submissionTime", now),
            """
            <Classification id="%s" classifiedObject="%s" objectType="%sClassification" \
            classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/>"""
            .formatted(newId(), of, OBJECT), // "this package is a SubmissionSet"
            code(of, "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500", "11429006", SNOMED_CT, "Consultation"),
            identifier(of, "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446", "XDSSubmissionSet.patientId", patientId),
            // sourceId: an OID of the system that sends, always the same. This one is the example's.
            identifier(of, "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832", "XDSSubmissionSet.sourceId",
                "2.25.87263411091372583047921035681107934052"),
            identifier(of, "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8", "XDSSubmissionSet.uniqueId", newOid()),
            "</RegistryPackage>");
    }

    /** ITI TF-3: 4.2.2.1. The SubmissionSet brings the document. */
    static String hasMember() {
        return """
            <Association id="Association01" associationType="%sHasMember" objectType="%sAssociation" \
            sourceObject="SubmissionSet01" targetObject="Document01">%s</Association>"""
            .formatted(ASSOCIATION, OBJECT, slot("SubmissionSetStatus", "Original"));
    }

    static String slot(String name, String value) {
        return "<Slot name=\"%s\"><ValueList><Value>%s</Value></ValueList></Slot>".formatted(name, escaped(value));
    }

    static String name(String text) {
        return "<Name><LocalizedString value=\"%s\"/></Name>".formatted(escaped(text));
    }

    static String code(String of, String scheme, String code, String codingScheme, String display) {
        return """
            <Classification id="%s" classifiedObject="%s" classificationScheme="%s" objectType="%sClassification" \
            nodeRepresentation="%s">%s%s</Classification>"""
            .formatted(newId(), of, scheme, OBJECT, code, slot("codingScheme", codingScheme), name(display));
    }

    static String identifier(String of, String scheme, String name, String value) {
        return """
            <ExternalIdentifier id="%s" registryObject="%s" identificationScheme="%s" \
            objectType="%sExternalIdentifier" value="%s">%s</ExternalIdentifier>"""
            .formatted(newId(), of, scheme, OBJECT, escaped(value), name(name));
    }

    static String newId() {
        return "urn:uuid:" + UUID.randomUUID();
    }

    /** An OID that nobody has: made from a UUID (ITU-T X.667). */
    static String newOid() {
        return "2.25." + new BigInteger(UUID.randomUUID().toString().replace("-", ""), 16);
    }

    static String escaped(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;").replace("\"", "&quot;");
    }
}
